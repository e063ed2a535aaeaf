"""The configuration of a training, torch-free: methods and their components, architectures, protocol, data, TOML."""
