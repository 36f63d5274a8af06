"""Toys with planted truth, one file each."""
