"""An idiomatic Flax training loop: NNX modules and the functional step of Flax's performance guide."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks.problem import Layout, Problem, Sequences, sequences


class Block(nnx.Module):
    """A pre-norm transformer block with one matrix product for queries, keys and values."""

    def __init__(self, width: int, num_heads: int, hidden: int, rngs: nnx.Rngs, dtype: Any) -> None:
        self.num_heads = num_heads
        self.attention_norm = nnx.LayerNorm(width, epsilon=1e-5, dtype=dtype, rngs=rngs)
        self.query_key_value = nnx.Linear(width, 3 * width, dtype=dtype, rngs=rngs)
        self.attention_out = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.mlp_norm = nnx.LayerNorm(width, epsilon=1e-5, dtype=dtype, rngs=rngs)
        self.mlp_in = nnx.Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.mlp_out = nnx.Linear(hidden, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array, mask: Any) -> jax.Array:
        """The outputs at all positions."""
        normed = self.query_key_value(self.attention_norm(x))
        heads = (*x.shape[:-1], self.num_heads, x.shape[-1] // self.num_heads)
        query, key, value = (part.reshape(heads) for part in jnp.split(normed, 3, axis=-1))
        attended = jax.nn.dot_product_attention(query, key, value, mask=mask, is_causal=mask is None)
        x = x + self.attention_out(attended.reshape(x.shape))
        return x + self.mlp_out(nnx.gelu(self.mlp_in(self.mlp_norm(x)), approximate=True))


class GPT(nnx.Module):
    """GPT-2 with tied embeddings, activations of `dtype` and parameters of float32."""

    def __init__(self, problem: Problem, rngs: nnx.Rngs, dtype: Any) -> None:
        width = problem.width
        # With dtype=bfloat16 the gradient of a table is summed in bfloat16, and most of it is lost.
        self.token = nnx.Embed(problem.vocab_size, width, rngs=rngs)
        self.position = nnx.Embed(problem.length, width, rngs=rngs)
        self.dtype = dtype
        hidden = problem.mlp_ratio * width
        self.blocks = nnx.List(
            [Block(width, problem.num_heads, hidden, rngs, dtype) for _ in range(problem.num_layers)]
        )
        self.final_norm = nnx.LayerNorm(width, epsilon=1e-5, dtype=dtype, rngs=rngs)

    def __call__(self, batch: Sequences) -> jax.Array:
        """Logits of the response's tokens."""
        x = self.token(jnp.asarray(batch.tokens)) + self.position(jnp.asarray(batch.positions))
        x = x.astype(self.dtype)
        mask = None if batch.mask is None else jnp.asarray(batch.mask)
        for block in self.blocks:
            x = block(x, mask)
        x = jnp.take_along_axis(x, batch.places[..., None], axis=1)
        return self.final_norm(x) @ self.token.embedding[...].astype(self.dtype).T


def loss_of(model: GPT, batch: Sequences) -> jax.Array:
    """-ln pi(response | prompt), averaged over the batch."""
    logits = model(batch).astype(jnp.float32)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.target)
    return jnp.sum(losses * batch.target_mask) / batch.tokens.shape[0]


def decayed(params: Any) -> Any:
    """All but biases and the norms' gains."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: not any(getattr(part, "key", None) in ("bias", "scale") for part in path), params
    )


class FlaxLoop:
    """Batches in memory, one jitted step per Python iteration, with donated state.

    Args:
        problem: the training problem.
        layout: side of the padding; "right" needs no mask.
        dtype: of activations; parameters are float32.
    """

    def __init__(
        self, problem: Problem, layout: Layout = "right", dtype: Literal["float32", "bfloat16"] = "float32"
    ) -> None:
        self.problem, self.dtype = problem, jnp.dtype(dtype)
        # A GPU's default for products of float32 is TF32.
        self.products = "highest" if dtype == "float32" else "default"
        self.batches = [jax.tree.map(jnp.asarray, sequences(batch, layout)) for batch in problem.batches]

        def step(graph: Any, state: Any, batch: Sequences) -> tuple[Any, jax.Array]:
            model, optimizer = nnx.merge(graph, state)
            with jax.default_matmul_precision(self.products):
                loss, gradient = nnx.value_and_grad(loss_of)(model, batch)
            optimizer.update(model, gradient)
            return nnx.state((model, optimizer)), loss

        self.step = jax.jit(step, static_argnums=0, donate_argnums=1)
        self.reset()

    def reset(self) -> None:
        """Restore the initial parameters and a fresh optimizer."""
        problem = self.problem
        model = GPT(problem, nnx.Rngs(0), self.dtype)
        pure = nnx.to_pure_dict(nnx.state(model, nnx.Param))
        loaded = jax.tree_util.tree_map_with_path(
            lambda path, old: jnp.asarray(problem.parameters[self._name(path)]).reshape(old.shape), pure
        )
        state = nnx.state(model, nnx.Param)
        nnx.replace_by_pure_dict(state, loaded)
        nnx.update(model, state)
        rule = optax.adamw(
            problem.learning_rate,
            problem.beta1,
            problem.beta2,
            problem.epsilon,
            weight_decay=problem.weight_decay,
            mask=decayed,
        )
        self.graph, self.state = nnx.split((model, nnx.Optimizer(model, rule, wrt=nnx.Param)))
        self.done = 0

    def loss_and_gradient(self) -> tuple[float, dict[str, np.ndarray]]:
        """Loss and gradient of the first batch at the initial parameters, by covlab's names."""
        self.reset()
        model, _ = nnx.merge(self.graph, self.state)
        with jax.default_matmul_precision(self.products):
            loss, gradient = nnx.jit(nnx.value_and_grad(loss_of))(model, self.batches[0])
        leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(gradient))
        return float(loss), {self._name(path): np.asarray(leaf) for path, leaf in leaves}

    def losses(self, count: int) -> list[float]:
        """Losses of the first updates."""
        self.reset()
        return [float(self._step()) for _ in range(count)]

    def steps(self, count: int) -> None:
        """Train for `count` steps."""
        for _ in range(count):
            loss = self._step()
        jax.block_until_ready((loss, self.state))

    def _step(self) -> jax.Array:
        self.state, loss = self.step(self.graph, self.state, self.batches[self.done % len(self.batches)])
        self.done += 1
        return loss

    def _name(self, path: tuple[Any, ...]) -> str:
        """`blocks`, `0`, `mlp_in`, `kernel` -> `blocks/0/mlp_in/kernel`."""
        return jax.tree_util.keystr(path, simple=True, separator="/").removesuffix("/embedding")
