"""What a training is, without torch: methods and their components, architectures, protocol, data, TOML."""
