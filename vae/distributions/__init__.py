"""Distributions: Gaussian posteriors over codes, likelihoods of pixels, and the categorical likelihood of tokens."""
