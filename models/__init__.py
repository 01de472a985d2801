"""Small autoregressive models."""

from models.base import Cache, Forward, Model, Params
from models.contract import ModelError, check_model
from models.flax_model import Flax
from models.gpt import GPT
from models.linear_model import Linear
from models.multi_token import MultiTokenGPT, with_ahead
from models.recursive import Recursive
from models.scoring import sequence_log_probs, token_log_probs, token_logits
from models.teacherless import TeacherlessGPT

__all__ = [
    "GPT",
    "Cache",
    "Flax",
    "Forward",
    "Linear",
    "Model",
    "ModelError",
    "MultiTokenGPT",
    "Params",
    "Recursive",
    "TeacherlessGPT",
    "check_model",
    "sequence_log_probs",
    "token_log_probs",
    "token_logits",
    "with_ahead",
]
