"""The black-box optimizers, one module each; `lso.optimizers` lists them."""
