"""Data in memory: images, and corpora packed by length."""
