"""What a search minimizes or scores: distances to targets, and the user's own scores."""
