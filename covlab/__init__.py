"""Machinery that turns a command line into a run, a verdict and a page."""
