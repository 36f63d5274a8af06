"""Initialisations of the subcomponents, one file each."""
