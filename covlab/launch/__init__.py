"""The way from a command line to a run on disk."""
