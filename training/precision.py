"""Precision of a run: how training computes on an accelerator, and what stays exact."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, Literal, get_args

import jax

from models import Model
from tasks.checks import choice

Precision = Literal["auto", "float32", "bfloat16", "highest"]
"""Ways to compute in training; parameters, sums, log-probabilities and ratios are float32 in all of them.

- float32: activations in float32. Products have the chip's default precision, which rounds their factors to
  bfloat16 (TPU) or to 10 bits of mantissa (GPU).
- bfloat16: activations and the factors of products in bfloat16.
- highest: activations in float32, and products of float32.
- auto: float32 on a CPU, whose products have float32's precision, and bfloat16 on an accelerator.

Evaluation has the model's own dtype and products of highest precision in all of them.
"""


def check_precision(value: object) -> None:
    """Refuse what is no `Precision`.

    Raises:
        ValueError: one line.
    """
    choice("precision", value, get_args(Precision))


def on(platform: str, precision: str) -> str:
    """The precision that `precision` means on a platform.

    >>> on("cpu", "auto"), on("tpu", "auto"), on("tpu", "highest")
    ('float32', 'bfloat16', 'highest')
    """
    if precision != "auto":
        return precision
    return "float32" if platform == "cpu" else "bfloat16"


def used(model: Model, platform: str, precision: str) -> str:
    """The precision that training `model` has: "auto" is float32 for a model that knows no bfloat16."""
    found = on(platform, precision)
    return "float32" if found == "bfloat16" and not _rounds(model) else found


def _rounds(model: Model) -> bool:
    both = model.computing("bfloat16") != model.computing("float32")
    return both or getattr(model, "dtype", None) == "bfloat16"


def said(config: Mapping[str, Any], platform: str, model: Model) -> dict[str, Any]:
    """A run's resolved settings, with the precision that training its model has on a platform.

    Without the key the precision is float32, as in runs of earlier versions.
    """
    found = used(model, platform, config.get("precision", "auto"))
    rest = {key: value for key, value in config.items() if key != "precision"}
    return rest if found == "float32" else rest | {"precision": found}


def trained(model: Model, platform: str, precision: str) -> Model:
    """The model as it is trained."""
    return model.computing("bfloat16") if on(platform, precision) == "bfloat16" else model


def require_bfloat16(model: Model) -> None:
    """Refuse to train a model in bfloat16 that computes in float32 alone.

    Raises:
        ValueError: one line.
    """
    if not _rounds(model):
        raise ValueError(
            f"precision: bfloat16, and {model.label} has float32 activations alone; valid: auto, float32, "
            "highest, or a GPT"
        )


def training_products(platform: str, precision: str) -> contextlib.AbstractContextManager[None]:
    """Block in which products are traced with the precision of training."""
    if platform == "cpu":
        return contextlib.nullcontext()
    own = "highest" if precision == "highest" else "default"
    return jax.default_matmul_precision(own)


def exact_products(platform: str) -> contextlib.AbstractContextManager[None]:
    """Block in which products are traced with float32's precision, for metrics."""
    return contextlib.nullcontext() if platform == "cpu" else jax.default_matmul_precision("highest")
