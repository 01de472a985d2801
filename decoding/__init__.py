"""Spending test-time compute."""

from decoding.base import Decoded, Decoder, Problem, Walk, problem_of
from decoding.sampling import sample_responses

__all__ = ["Decoded", "Decoder", "Problem", "Walk", "problem_of", "sample_responses"]
