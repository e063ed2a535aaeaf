"""What a search found: evaluations, results, and the files that hold them."""
