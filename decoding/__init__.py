"""Test-time compute: decoders and the base models and value functions that guide them."""

from decoding.action_rejection import ActionRejection
from decoding.backtracking import BacktrackingRejection
from decoding.base import Decoded, Decoder, Problem, Walk, decode, problem_of
from decoding.beam_search import BeamSearch
from decoding.blocks import BlockBestOfN, BlockRejection
from decoding.estimates import Corrupted, Rollouts
from decoding.nucleus import Nucleus
from decoding.particle_filter import ParticleFilter
from decoding.pessimism import BestOfN, Pessimism
from decoding.race import UniformRace
from decoding.responses import base_responses
from decoding.sampling import sample_responses
from decoding.selection import response_features, select_diverse, whitened
from decoding.test_time_training import TestTimeTraining, ttt_log_probs
from decoding.vgb import VGB
from decoding.votes import MajorityVote
from decoding.walks import Constant, ModelPolicy, ModelValues, TaskPolicy, TaskValues
from decoding.whole import Ancestral, OutcomeRejection

__all__ = [
    "VGB",
    "ActionRejection",
    "Ancestral",
    "BacktrackingRejection",
    "BeamSearch",
    "BestOfN",
    "BlockBestOfN",
    "BlockRejection",
    "Constant",
    "Corrupted",
    "Decoded",
    "Decoder",
    "MajorityVote",
    "ModelPolicy",
    "ModelValues",
    "Nucleus",
    "OutcomeRejection",
    "ParticleFilter",
    "Pessimism",
    "Problem",
    "Rollouts",
    "TaskPolicy",
    "TaskValues",
    "TestTimeTraining",
    "UniformRace",
    "Walk",
    "base_responses",
    "decode",
    "problem_of",
    "response_features",
    "sample_responses",
    "select_diverse",
    "ttt_log_probs",
    "whitened",
]
