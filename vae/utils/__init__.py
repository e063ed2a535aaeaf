"""Helpers for all sub-packages: atomic files and locks, random streams, checks of values, integrity of files."""
