"""Metrics of a VAE: likelihood estimates, mutual information, active units, inference gaps, posterior collapse."""
