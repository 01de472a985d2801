"""Slow, plain and independent answers that the tests compare the packages with."""
