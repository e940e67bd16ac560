"""Keeping records: baseline files in git and run records as JSON. Judges nothing."""
