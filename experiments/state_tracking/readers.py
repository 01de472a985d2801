"""Models that write, as the t-th token of the response, their output at the t-th element of the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from models.delta_net import DeltaProduct
from models.recurrent import LSTM
from tasks.checks import whole


class Transformer(nnx.Module):
    """A causal transformer with learned positions, layer norms before its layers and GELU.

    Args:
        vocab_size: size of the vocabulary.
        max_length: number of positions.
        num_layers, num_heads, width: sizes; the MLPs have 4 `width` hidden units.
        rngs: random numbers of the initial parameters.

    Raises:
        ValueError: a size that is not a positive integer, or a width that is no multiple of `num_heads`.
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        num_layers: int = 2,
        num_heads: int = 4,
        width: int = 32,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        for field, value in {"num_layers": num_layers, "num_heads": num_heads, "width": width}.items():
            whole(f"compared.transformer.{field}", value, 1)
        if width % num_heads:
            raise ValueError(
                f"compared.transformer.width: {width} is not a multiple of num_heads = {num_heads}"
            )
        self.embedding = nnx.Embed(vocab_size, width, rngs=rngs)
        self.position = nnx.Embed(max_length, width, rngs=rngs)
        self.attention = nnx.List(
            [nnx.MultiHeadAttention(num_heads, width, decode=False, rngs=rngs) for _ in range(num_layers)]
        )
        self.inner = nnx.List([nnx.Linear(width, 4 * width, rngs=rngs) for _ in range(num_layers)])
        self.outer = nnx.List([nnx.Linear(4 * width, width, rngs=rngs) for _ in range(num_layers)])
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2 * num_layers + 1)])
        self.output = nnx.Linear(width, vocab_size, use_bias=False, rngs=rngs)

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length vocab"]:
        """Logits at every position."""
        x = self.embedding(tokens) + self.position(jnp.arange(tokens.shape[1]))
        mask = nnx.make_causal_mask(tokens)
        for layer, attention in enumerate(self.attention):
            x = x + attention(self.norms[2 * layer](x), mask=mask)
            x = x + self.outer[layer](nnx.gelu(self.inner[layer](self.norms[2 * layer + 1](x))))
        return self.output(self.norms[-1](x))


KINDS: Mapping[str, Any] = {"delta": DeltaProduct, "lstm": LSTM, "transformer": Transformer}


class Reader(nnx.Module):
    """A causal module that is asked for the state after every element that it has read.

    The prompt is `g1 ... gn =`, the response has n tokens. Token t is predicted by the module's output at
    g_t, which has read g_1 ... g_t. The tokens of the response are never read, so that
    pi_hat(y|x) = prod_t pi_hat_t(y_t | g_1 ... g_t): no running product is given.

    Args:
        vocab_size, prompt_length: of the task; token `vocab_size` - 1 is `=`.
        kind: delta (`models.delta_net.DeltaProduct`), lstm (`models.recurrent.LSTM`) or transformer.
        options: arguments of this class other than sizes of the task and `rngs`.
        rngs: random numbers of the initial parameters.

    Raises:
        ValueError: an unknown kind, or an option that is not valid.
    """

    def __init__(
        self, vocab_size: int, prompt_length: int, kind: str, options: Mapping[str, Any], *, rngs: nnx.Rngs
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"model.module.kind: {kind!r} is not one of {', '.join(KINDS)}")
        self.equals, self.most = vocab_size - 1, prompt_length - 1
        sizes = {"max_length": self.most} if kind == "transformer" else {}
        self.module = KINDS[kind](vocab_size, **sizes, **options, rngs=rngs)

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length vocab"]:
        """Logits of the response's tokens, from the position of `=` on; before it, numbers without use."""
        logits = self.module(tokens[:, : self.most])
        count = jnp.argmax(tokens == self.equals, axis=1)
        element = jnp.arange(tokens.shape[1]) - count[:, None]
        return jnp.take_along_axis(logits, jnp.clip(element, 0, logits.shape[1] - 1)[..., None], axis=1)
