"""Posteriors and likelihoods: Gaussians over codes, families over pixels, categoricals over tokens."""
