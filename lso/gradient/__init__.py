"""Search by gradient: initial points, optimizers, stopping rules, inversion."""
