"""The command line: parses, calls the library, prints. The only place that knows of typer and rich."""
