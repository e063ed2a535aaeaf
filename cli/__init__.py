"""The command line: parses arguments, calls the library and prints. No other package imports typer or rich."""
