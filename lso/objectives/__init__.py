"""Objectives over latent codes: distances of decodes to targets, and the user's own scores of decodes."""
