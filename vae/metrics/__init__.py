"""What a model is measured by: likelihoods, information, active units, inference gaps, collapse."""
