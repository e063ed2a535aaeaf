"""The commands, one module each; `lso.cli.main` lists them."""
