"""Spending test-time compute."""

from decoding.sampling import sample_responses

__all__ = ["sample_responses"]
