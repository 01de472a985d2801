"""Flax modules as users write them, from Flax's documentation: they know nothing of this project."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx


class GRU(nnx.Module):
    """Embedding, GRU cell, output layer; `nnx.RNN` reads whole sequences."""

    def __init__(self, vocab_size: int, width: int = 16, dtype: Any = None, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(vocab_size, width, dtype=dtype, rngs=rngs)
        self.rnn = nnx.RNN(nnx.GRUCell(width, width, dtype=dtype, rngs=rngs))
        self.head = nnx.Linear(width, vocab_size, dtype=dtype, rngs=rngs)

    def __call__(self, tokens):
        return self.head(self.rnn(self.embed(tokens)))

    def initial_carry(self, batch_size):
        return jnp.zeros((batch_size, self.rnn.cell.hidden_features), self.embed.dtype)

    def step(self, carry, tokens):
        carry, hidden = self.rnn.cell(carry, self.embed(tokens))
        return carry, self.head(hidden)


class Transformer(nn.Module):
    """Post-norm blocks with relative sizes as in a tutorial; it asks for positions and a mask of padding."""

    vocab_size: int
    max_length: int
    width: int = 16
    num_layers: int = 1
    num_heads: int = 2

    @nn.compact
    def __call__(self, tokens, positions, mask):
        x = nn.Embed(self.vocab_size, self.width)(tokens) + nn.Embed(self.max_length, self.width)(positions)
        seen = nn.combine_masks(
            nn.make_causal_mask(tokens), nn.make_attention_mask(jnp.ones_like(mask), mask)
        )
        for _ in range(self.num_layers):
            x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(self.num_heads)(x, mask=seen))
            x = nn.LayerNorm()(x + nn.Dense(self.width)(jax.nn.relu(nn.Dense(2 * self.width)(x))))
        return nn.Dense(self.vocab_size)(x)


class BatchNormed(nnx.Module):
    """Running means change while training."""

    def __init__(self, vocab_size: int, *, rngs: nnx.Rngs):
        self.embed, self.norm = (
            nnx.Embed(vocab_size, vocab_size, rngs=rngs),
            nnx.BatchNorm(vocab_size, rngs=rngs),
        )

    def __call__(self, tokens):
        return self.norm(self.embed(tokens))


class WithDropout(nnx.Module):
    """The count of a random stream changes with every call."""

    def __init__(self, vocab_size: int, rate: float = 0.5, *, rngs: nnx.Rngs):
        self.embed, self.dropout = nnx.Embed(vocab_size, vocab_size, rngs=rngs), nnx.Dropout(rate, rngs=rngs)

    def __call__(self, tokens):
        return self.dropout(self.embed(tokens))


class Sowing(nnx.Module):
    """A call leaves a variable behind."""

    def __init__(self, vocab_size: int, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(vocab_size, vocab_size, rngs=rngs)

    def __call__(self, tokens):
        logits = self.embed(tokens)
        self.sow(nnx.Intermediate, "seen", logits)
        return logits


class LinenBatchNormed(nn.Module):
    """A collection besides `params`."""

    vocab_size: int

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(self.vocab_size, self.vocab_size)(tokens)
        return nn.BatchNorm(use_running_average=False)(x)


class Frequencies(nnx.Module):
    """A table that is a variable but no parameter, and a list of layers with a function in it."""

    def __init__(self, vocab_size: int, max_length: int, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(vocab_size, 8, rngs=rngs)
        self.waves = nnx.Variable(jnp.sin(jnp.arange(max_length)[:, None] / jnp.arange(1, 9)))
        self.layers = nnx.Sequential(
            nnx.Linear(8, 8, rngs=rngs), jax.nn.tanh, nnx.Linear(8, vocab_size, rngs=rngs)
        )

    def __call__(self, tokens, positions):
        return self.layers(self.embed(tokens) + self.waves[...][positions])
