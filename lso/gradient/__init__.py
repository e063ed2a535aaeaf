"""Searches by gradient: starts, optimizers, stopping rules, inversion."""
