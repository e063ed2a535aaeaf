"""Parts of Bayesian optimizers: surrogates, acquisition, candidates, features, the guard."""
