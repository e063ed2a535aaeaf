"""Published tables, what reproduces them, and the claims that are judged."""
