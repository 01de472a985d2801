"""Exactly solvable instances, in float64 on the host, shared by several claims."""
