"""Models under study: the only room that knows an architecture."""
