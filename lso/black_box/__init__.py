"""Black-box searches: ask and tell, journal, budget, executors and workers."""
