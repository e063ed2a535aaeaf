"""Approximate posteriors: amortized by an encoder, optimized by gradient steps (SVI), or both (SA-VAE)."""
