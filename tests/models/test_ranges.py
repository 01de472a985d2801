"""Ends of the valid ranges of the models' fields: the last valid value is taken, the next one is refused."""

from __future__ import annotations

from typing import Any

import pytest
from flax import nnx
from oracles.ranges import refuses, takes

from models import GPT, Flax, Linear, MultiTokenGPT, Recursive
from models.delta_net import DeltaNet, DeltaProduct
from models.recurrent import GRU, LSTM

ONE: dict[str, Any] = {"vocab_size": 1, "prompt_length": 1, "response_length": 1}
SMALLEST: dict[str, Any] = ONE | {"num_layers": 1, "num_heads": 1, "width": 1, "mlp_ratio": 1}
TAKEN: list[tuple[type[Any], dict[str, Any]]] = [
    (GPT, SMALLEST | {"init_std": 0.5, "dtype": "bfloat16", "tie_embeddings": False}),
    (MultiTokenGPT, SMALLEST | {"ahead": 1}),
    (Recursive, SMALLEST | {"num_recursions": 1, "test_recursions": 1, "outer_layers": 0, "balance": 0}),
    (Recursive, SMALLEST | {"routing": "token", "input_injection": False}),
    (Linear, ONE | {"init_radius": 0}),
]
"""Valid settings at an end of a range."""

NETWORKS = {"num_layers": 1, "width": 1}
REFUSED: list[tuple[type[Any], dict[str, Any], str]] = [
    *((GPT, ONE | {name: 0}, f"model.{name}: 0") for name in SMALLEST),
    (GPT, ONE | {"init_std": 0}, "model.init_std: 0"),
    (GPT, ONE | {"tie_embeddings": 1}, "model.tie_embeddings: 1"),
    *((Flax, ONE | {"module": nnx.Module, name: 0}, f"model.{name}: 0") for name in ONE),
    (MultiTokenGPT, ONE | {"width": 0}, "model.width: 0"),
    (Recursive, ONE | {"width": 0}, "model.width: 0"),
    (Recursive, ONE | {"input_injection": 1}, "model.input_injection: 1"),
    (Recursive, ONE | {"balance": -0.01}, "model.balance: -0.01"),
    (Linear, ONE | {"init_radius": -0.01}, "model.init_radius: -0.01"),
]
"""Settings beyond an end, and the beginning of the message."""


def test_the_last_valid_values_are_taken() -> None:
    for kind, fields in TAKEN:
        takes(kind, fields)


@pytest.mark.parametrize(("kind", "fields", "message"), REFUSED)
def test_the_next_ones_are_refused(kind: type[Any], fields: dict[str, Any], message: str) -> None:
    refuses(kind, fields, message)


@pytest.mark.long
def test_modules_of_one_unit() -> None:
    delta = {"num_heads": 1, "mlp_ratio": 1, "kernel_size": 1, "chunk_size": 1, "init_std": 0.5}
    assert LSTM(1, **NETWORKS, rngs=nnx.Rngs(0)).layers[0].parts == 2
    assert GRU(1, **NETWORKS, rngs=nnx.Rngs(0)).layers[0].parts == 1
    # The hidden size of an MLP is at least 1, where 2/3 of it would be 0.
    assert DeltaNet(1, **NETWORKS, **delta, rngs=nnx.Rngs(0)).layers[0].mlp_out.in_features == 1
    none = DeltaProduct(1, **NETWORKS, **delta | {"kernel_size": 0}, householder_steps=1, rngs=nnx.Rngs(0))
    assert none.layers[0].delta.convolution is None
