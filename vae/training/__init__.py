"""Training of a VAE: the step, the loop, its checkpoints, model selection, and batched training of several models."""
