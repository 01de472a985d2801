"""Defaults of the models and of their layers."""

from __future__ import annotations

import inspect

import jax.numpy as jnp
import pytest
from oracles.signatures import defaults

from models import GPT, Linear, Model, MultiTokenGPT, Recursive, TeacherlessGPT, check_model
from models.base import Forward
from models.delta_net import DeltaNet, DeltaProduct
from models.gpt import Block, Transformer, run
from models.nnx_layers import Dense
from models.recurrent import GRU, LSTM, orthogonal
from models.recursive import RecursiveTransformer

PAPER = {
    "num_layers": 6,
    "num_heads": 4,
    "width": 384,
    "mlp_ratio": 4,
    "init_std": 0.02,
    "tie_embeddings": True,
    "dtype": "float32",
}
DELTA = {
    "num_layers": 2,
    "num_heads": 4,
    "width": 128,
    "kernel_size": 4,
    "mlp_ratio": 4,
    "chunk_size": 32,
    "init_std": 0.02,
}
RECURSIVE = {
    "num_layers": 2,
    "num_recursions": 3,
    "test_recursions": None,
    "outer_layers": 0,
    "input_injection": True,
    "routing": "none",
    "balance": 0.1,
}


def test_defaults_stay_as_they_are() -> None:
    """Another default would change what an old command line computes."""
    expected = {
        GPT: PAPER,
        TeacherlessGPT: PAPER,
        MultiTokenGPT: PAPER | {"ahead": 3},
        Recursive: PAPER | RECURSIVE,
        Linear: {"init_radius": 0.0},
        LSTM.__init__: {"num_layers": 2, "width": 128},
        GRU.__init__: {"num_layers": 2, "width": 128},
        DeltaProduct.__init__: DELTA | {"householder_steps": 2, "negative_eigenvalues": True},
        DeltaNet.__init__: DELTA | {"negative_eigenvalues": False},
        orthogonal: {"dtype": jnp.float32, "out_sharding": None},
        check_model: {"prompts_too": False},
        Forward: {"ahead": (), "penalty": None},
        Block.heads: {"first": 0},
        Dense.__call__: {"first": 0},
        run: {"first": 0, "outputs": True},
        Transformer.hidden_states: {"outputs": True},
        RecursiveTransformer.hidden_states: {"outputs": True},
        RecursiveTransformer.recursed: {"outputs": True},
    }
    assert {each: defaults(each) for each in expected} == expected


@pytest.mark.parametrize("kind", [Model, GPT, MultiTokenGPT, Recursive])
def test_a_training_pass_has_no_heads_unless_asked(kind: type[Model]) -> None:
    assert defaults(kind.training_pass) == {"heads": 0}
    assert inspect.getattr_static(Model, "ahead") == 0
