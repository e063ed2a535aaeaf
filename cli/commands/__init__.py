"""The commands, one module each; `lso.cli.main` registers them."""
