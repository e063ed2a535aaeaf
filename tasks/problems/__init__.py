"""Problems to optimize, one module each, and the chemistry of molecules."""
