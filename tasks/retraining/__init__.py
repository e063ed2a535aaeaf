"""Weighted retraining (Tripp et al. 2020): rounds of search and training, their record and report."""
