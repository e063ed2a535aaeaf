"""Speed of the straightforward way against ours, one module for each kind of work."""
