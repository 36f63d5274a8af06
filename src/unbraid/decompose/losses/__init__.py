"""Loss terms, one file each: a file holds its settings, its function and its registration."""
