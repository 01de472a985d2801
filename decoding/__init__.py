"""Spending test-time compute."""

from decoding.action_rejection import ActionRejection
from decoding.backtracking import BacktrackingRejection
from decoding.base import Decoded, Decoder, Problem, Walk, decode, problem_of
from decoding.blocks import BlockBestOfN, BlockRejection
from decoding.estimates import Corrupted, Rollouts
from decoding.responses import base_responses
from decoding.sampling import sample_responses
from decoding.vgb import VGB
from decoding.walks import Constant, ModelPolicy, ModelValues, TaskPolicy, TaskValues
from decoding.whole import Ancestral, OutcomeRejection

__all__ = [
    "VGB",
    "ActionRejection",
    "Ancestral",
    "BacktrackingRejection",
    "BlockBestOfN",
    "BlockRejection",
    "Constant",
    "Corrupted",
    "Decoded",
    "Decoder",
    "ModelPolicy",
    "ModelValues",
    "OutcomeRejection",
    "Problem",
    "Rollouts",
    "TaskPolicy",
    "TaskValues",
    "Walk",
    "base_responses",
    "decode",
    "problem_of",
    "sample_responses",
]
