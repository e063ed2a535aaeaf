"""Progress as the terminal shows it, one module a kind of work."""
