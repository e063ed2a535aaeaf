"""Progress on the terminal: bars, and one module for each kind of work."""
