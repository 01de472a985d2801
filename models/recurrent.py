"""Recurrent language models as Flax modules: what they share, LSTM and GRU.

A module maps tokens to the logits of the next token at every position, and has the same function token by
token:

    module(tokens)                     (batch, length) -> (batch, length, vocab)
    module.initial_carry(batch_size)   the state before the first token, a pytree of arrays (batch, ...)
    module.step(carry, tokens)         (batch,) -> the next state, and logits (batch, vocab)

The state has the same size after every token. No module draws random numbers or changes after construction.
Parameters and activations are float32.
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.checks import whole

Carry = Any
"""The state of a layer or of a model: a pytree of float32 arrays whose first axis is the batch's."""


class Layer(Protocol):
    """A causal map of sequences that can also be computed token by token."""

    def __call__(self, x: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        """Outputs at all positions, from an empty state."""

    def initial_carry(self, batch_size: int) -> Carry:
        """The empty state."""

    def step(self, carry: Carry, x: Float[Array, "batch width"]) -> tuple[Carry, Float[Array, "batch width"]]:
        """The next state and the output for one more input."""


class RecurrentModel(nnx.Module):
    """Token embedding, layers, a norm if there is one, and an output table without bias.

    Subclasses construct the parts in `__init__`.
    """

    embedding: nnx.Embed
    layers: nnx.List[Any]
    final_norm: nnx.RMSNorm | None
    output: nnx.Linear

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length vocab"]:
        """Logits of the next token at every position."""
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self._logits(x)

    def initial_carry(self, batch_size: int) -> Carry:
        """The state before the first token."""
        return tuple(layer.initial_carry(batch_size) for layer in self.layers)

    def step(self, carry: Carry, tokens: Int[Array, " batch"]) -> tuple[Carry, Float[Array, "batch vocab"]]:
        """The state after `tokens`, and the logits of the next token."""
        x, states = self.embedding(tokens), []
        for layer, state in zip(self.layers, carry, strict=True):
            state, x = layer.step(state, x)
            states.append(state)
        return tuple(states), self._logits(x)

    def _logits(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocab"]:
        return self.output(x if self.final_norm is None else self.final_norm(x))


class CellLayer(nnx.Module):
    """A recurrent cell of Flax as a layer.

    Args:
        cell: the cell.
        width: size of its inputs, outputs and states.
        parts: number of arrays in its state: LSTM (c, h), GRU h.
    """

    def __init__(self, cell: nnx.RNNCellBase, width: int, parts: int) -> None:
        self.cell = cell
        self.width = width
        self.parts = parts

    def __call__(self, x: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        """Outputs at all positions.

        A plain scan: `nnx.RNN` carries the parameters through the loop and advances a random stream for the
        initial state, although that is 0.
        """
        _, outputs = jax.lax.scan(self.step, self.initial_carry(len(x)), jnp.swapaxes(x, 0, 1))
        return jnp.swapaxes(outputs, 0, 1)

    def initial_carry(self, batch_size: int) -> Carry:
        """Zeros."""
        zeros = jnp.zeros((batch_size, self.width))
        return zeros if self.parts == 1 else (zeros,) * self.parts

    def step(self, carry: Carry, x: Float[Array, "batch width"]) -> tuple[Carry, Float[Array, "batch width"]]:
        """The cell."""
        return self.cell(carry, x)


def orthogonal(
    key: PRNGKeyArray, shape: tuple[int, int], dtype: Any = jnp.float32, out_sharding: Any = None
) -> Float[Array, "rows columns"]:
    """A matrix with orthonormal rows (columns, if there are more rows), uniform among all of them.

    Gram-Schmidt on normal vectors, each projected twice. It is what `jax.nn.initializers.orthogonal` draws
    by a QR decomposition, in other random numbers. LAPACK is avoided: batched decompositions in a program
    for many seeds sometimes never return on CPU (jaxlib 0.10.2, a few in a thousand on two busy cores).
    """
    few, many = sorted(shape)

    def project(i: Array, basis: Array) -> Array:
        before = jnp.where(jnp.arange(few)[:, None] < i, basis, 0.0)
        row = basis[i]
        for _ in range(2):
            row = row - (before @ row) @ before
        return basis.at[i].set(row / jnp.linalg.norm(row))

    basis = jax.lax.fori_loop(0, few, project, jax.random.normal(key, (few, many)))
    return (basis if shape[0] == few else basis.T).astype(dtype)


class CellModel(RecurrentModel):
    """Embeddings with entries N(0, 1), a stack of one kind of cell, an output table.

    The cells start as Flax initialises them: input matrices LeCun-normal, recurrent ones orthogonal (all
    gates together, see `orthogonal`), biases 0. The output table starts LeCun-normal.

    Args:
        kind: `nnx.OptimizedLSTMCell` or `nnx.GRUCell`.
        parts: number of arrays in a cell's state.

    Raises:
        ValueError: a size that is not a positive integer.
    """

    def __init__(
        self, kind: Any, parts: int, vocab_size: int, num_layers: int, width: int, rngs: nnx.Rngs
    ) -> None:
        for field, value in {"num_layers": num_layers, "width": width}.items():
            whole(f"model.module.{field}", value, 1)
        self.embedding = nnx.Embed(vocab_size, width, embedding_init=nnx.initializers.normal(1.0), rngs=rngs)
        self.layers = nnx.List(
            [
                CellLayer(kind(width, width, recurrent_kernel_init=orthogonal, rngs=rngs), width, parts)
                for _ in range(num_layers)
            ]
        )
        self.final_norm = None
        self.output = nnx.Linear(width, vocab_size, use_bias=False, rngs=rngs)


class LSTM(CellModel):
    """Language model of LSTM layers (Hochreiter & Schmidhuber 1997; forget gates by Gers et al. 2000).

    With gates i, f, o = sigmoid(...) and g = tanh(...), each of W x + U h + b:

        c' = f c + i g,   h' = o tanh(c').

    Args:
        vocab_size: size of the vocabulary.
        num_layers: number of LSTM layers.
        width: size of the embeddings, of h and of c.
        rngs: random numbers of the initial parameters.

    Raises:
        ValueError: a size that is not a positive integer.
    """

    def __init__(self, vocab_size: int, num_layers: int = 2, width: int = 128, *, rngs: nnx.Rngs) -> None:
        super().__init__(nnx.OptimizedLSTMCell, 2, vocab_size, num_layers, width, rngs)


class GRU(CellModel):
    """Language model of gated recurrent units (Cho et al. 2014), with the reset gate behind the matrix.

    With gates r, z = sigmoid(W x + b + U h) and n = tanh(W x + b + r (U h)):

        h' = (1 - z) n + z h.

    Args:
        vocab_size: size of the vocabulary.
        num_layers: number of GRU layers.
        width: size of the embeddings and of h.
        rngs: random numbers of the initial parameters.

    Raises:
        ValueError: a size that is not a positive integer.
    """

    def __init__(self, vocab_size: int, num_layers: int = 2, width: int = 128, *, rngs: nnx.Rngs) -> None:
        super().__init__(nnx.GRUCell, 1, vocab_size, num_layers, width, rngs)
