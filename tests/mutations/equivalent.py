"""Mutants that compute the same as the product for every valid input, each with the reason."""

EQUIVALENT: dict[str, str] = {}
