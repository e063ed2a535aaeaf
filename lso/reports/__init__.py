"""Reports: HTML pages, tables, plots, pictures, comparisons."""
