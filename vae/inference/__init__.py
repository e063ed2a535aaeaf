"""Posteriors of data: amortized by an encoder, and refined by gradient steps (SVI, SA-VAE)."""
