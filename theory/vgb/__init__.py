"""Exact laws of value-guided backtracking."""
