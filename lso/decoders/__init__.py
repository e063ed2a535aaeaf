"""Frozen decoders: our own and foreign ones, checked, probed, and drawn from."""
