"""Searches by name: for targets by gradient, and in black boxes."""
