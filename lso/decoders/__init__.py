"""Frozen decoders of any library: wrapping them, checking them, probing their latents, generating from them."""
