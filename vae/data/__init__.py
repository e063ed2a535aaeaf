"""Datasets in memory: images as tensors, sequences as packed corpora; their splits and batches."""
