"""Datasets, one module each, and what they share: splits, downloads, tokenizers, preprocessing."""
