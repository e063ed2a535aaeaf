"""Numbers about searches and verdicts on them; no HTML, no plots."""
