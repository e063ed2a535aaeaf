"""Black-box search: optimizers with ask and tell, the search loop, its journal and budget, executors and workers."""
