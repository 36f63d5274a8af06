"""Importance functions, one file each: what decides, for each input, which subcomponents it needs."""
