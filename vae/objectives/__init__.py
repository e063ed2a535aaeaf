"""Training objectives: the ELBO and its variants, re-encoding penalties, and schedules of the KL weight."""
