"""Trainings by name: one, several, sweeps, repeated evaluations."""
