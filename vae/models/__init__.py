"""Networks: encoders and decoders of images and sequences, their layers, and autoregressive sampling."""
