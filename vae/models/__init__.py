"""Networks: encoders and decoders of images and sequences, their layers, autoregressive sampling."""
