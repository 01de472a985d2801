"""Small autoregressive models."""

from models.base import Cache, Model, Params
from models.gpt import GPT
from models.scoring import sequence_log_probs, token_log_probs

__all__ = ["GPT", "Cache", "Model", "Params", "sequence_log_probs", "token_log_probs"]
