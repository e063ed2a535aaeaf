"""Parts of Bayesian optimizers: surrogate models, acquisition, candidates, features, and the guard of typicality."""
