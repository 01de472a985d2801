"""GPT-2's transformer: pre-norm blocks, GELU, learned absolute positions, tied embeddings.

The forward pass is `_embed`, `_hidden_states`, `_logits`. The methods of `Model` at the end of the class say
which keys a query sees: in the prompt, with teacher forcing, and with a decoding cache.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from models.base import Model
from models.cache import DecodeCache, PrefixCache, visible_until, write
from models.gradients import attend, linear, lookup, standardise
from models.layers import Memory
from tasks.checks import flag, real, whole

Params = dict[str, Any]
Attention = Callable[[int, Array, Array, Array], Array]
"""(layer, query, key, value) -> attended, arrays of shape (batch, heads, candidates, length, head_dim)."""


@dataclasses.dataclass(frozen=True)
class GPT(Model):
    """GPT-2's architecture (Radford et al. 2019) as the paper uses it (arXiv 2510.15020, appendix C.1.2).

    Attributes:
        vocab_size, prompt_length, response_length: set from the task.
        num_layers: number of blocks; the paper's model has 6.
        num_heads: attention heads of a block; the paper's model has 4.
        width: size of the hidden states, a multiple of `num_heads`; the paper's model has 384.
        mlp_ratio: hidden width of the MLPs over `width`.
        init_std: standard deviation of the initial embeddings and weights, see `init`.
        tie_embeddings: the output layer is the transposed token embedding, as in GPT-2.
        dtype: of activations and matrix products; parameters, norms, softmax and logits stay float32.
    """

    vocab_size: int
    prompt_length: int
    response_length: int
    num_layers: int = 6
    num_heads: int = 4
    width: int = 384
    mlp_ratio: int = 4
    init_std: float = 0.02
    tie_embeddings: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"

    def _embed(self, params: Params, tokens: Int[Array, "*shape"], positions: Int[Array, "*shape"]) -> Array:
        """Token embedding plus position embedding."""
        token, position = params["token"].astype(self.dtype), params["position"].astype(self.dtype)
        return lookup(token, tokens) + lookup(position, positions)

    def _hidden_states(
        self, blocks: Sequence[Params], x: Float[Array, "batch candidates length width"], attention: Attention
    ) -> Float[Array, "batch candidates length width"]:
        """Outputs of `blocks`: in each, x + attention(layer norm(x)), then x + MLP(layer norm(x)).

        `attention` gets queries scaled by 1 / sqrt(head_dim) and returns softmax(q k^T) v over visible keys.
        """
        for layer, block in enumerate(blocks):
            normed = self._layer_norm(block["attention_norm"], x)
            query, key, value = self._heads(block["query_key_value"], normed)
            attended = attention(layer, query * (1 / math.sqrt(self.head_dim)), key, value)
            x = x + self._linear(block["attention_out"], self._joined(attended))
            hidden = self._linear(block["mlp_in"], self._layer_norm(block["mlp_norm"], x))
            x = x + self._linear(block["mlp_out"], jax.nn.gelu(hidden, approximate=True))
        return x

    def _logits(self, params: Params, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocab"]:
        """Logits of the next token from hidden states: the output table times the final layer norm."""
        table = self.output_table(params).astype(self.dtype)
        rows = self._layer_norm(params["final_norm"], x).reshape(-1, self.width)
        logits = jnp.einsum("nd,vd->nv", rows, table, preferred_element_type=jnp.float32)
        return logits.reshape(*x.shape[:-1], self.vocab_size)

    def _layer_norm(self, norm: Params, x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
        """Layer normalisation, computed in float32."""
        return (standardise(x.astype(jnp.float32)) * norm["scale"] + norm["bias"]).astype(self.dtype)

    def _linear(self, layer: Params, x: Float[Array, "*batch fan_in"]) -> Float[Array, "*batch fan_out"]:
        """x W + b, on rows: the kernel's gradient then contracts one axis, for which XLA on CPU copies no
        operand."""
        kernel, bias = layer["kernel"].astype(self.dtype), layer["bias"].astype(self.dtype)
        return (linear(x.reshape(-1, x.shape[-1]), kernel) + bias).reshape(*x.shape[:-1], kernel.shape[1])

    def _heads(
        self, layer: Params, x: Float[Array, "batch candidates length width"]
    ) -> tuple[Float[Array, "batch heads candidates length head_dim"], ...]:
        """Projections of x, each split into heads; every `width` columns of the layer are one projection."""
        projected = self._linear(layer, x)
        shape = (*x.shape[:-1], self.num_heads, self.head_dim)
        return tuple(
            jnp.transpose(part.reshape(shape), (0, 3, 1, 2, 4))
            for part in jnp.split(projected, projected.shape[-1] // self.width, axis=-1)
        )

    def _joined(
        self, heads: Float[Array, "batch heads candidates length head_dim"]
    ) -> Float[Array, "batch candidates length width"]:
        joined = jnp.transpose(heads, (0, 2, 3, 1, 4))
        return joined.reshape(*joined.shape[:3], self.width)

    def __post_init__(self) -> None:
        for field in (
            "vocab_size",
            "prompt_length",
            "response_length",
            "num_layers",
            "num_heads",
            "width",
            "mlp_ratio",
        ):
            whole(f"model.{field}", getattr(self, field), 1)
        if self.width % self.num_heads:
            raise ValueError(
                f"model.width: {self.width} is not a multiple of model.num_heads = {self.num_heads}"
            )
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"model.dtype: {self.dtype!r} is not one of float32, bfloat16")
        real("model.init_std", self.init_std, above=0)
        flag("model.tie_embeddings", self.tie_embeddings)

    @property
    def max_length(self) -> int:
        """Number of positions: the prompt and the response without its last token, which is never an
        input."""
        return self.prompt_length + self.response_length - 1

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.num_heads

    def init(self, key: PRNGKeyArray) -> Params:
        """GPT-2's initialisation.

        Embeddings and weights are normal with standard deviation `init_std` (GPT-2: 0.02). Those that write
        into the residual stream are divided by sqrt(2 num_layers). Biases start at 0, gains of norms at 1.
        """
        hidden = self.mlp_ratio * self.width
        residual_std = self.init_std / math.sqrt(2 * self.num_layers)
        keys = iter(jax.random.split(key, 3 + 4 * self.num_layers))

        def linear(fan_in: int, fan_out: int, std: float) -> Params:
            return {
                "kernel": std * jax.random.normal(next(keys), (fan_in, fan_out)),
                "bias": jnp.zeros((fan_out,)),
            }

        def norm() -> Params:
            return {"scale": jnp.ones((self.width,)), "bias": jnp.zeros((self.width,))}

        params: Params = {
            "token": self.init_std * jax.random.normal(next(keys), (self.vocab_size, self.width)),
            "position": self.init_std * jax.random.normal(next(keys), (self.max_length, self.width)),
            "blocks": [
                {
                    "attention_norm": norm(),
                    "query_key_value": linear(self.width, 3 * self.width, self.init_std),
                    "attention_out": linear(self.width, self.width, residual_std),
                    "mlp_norm": norm(),
                    "mlp_in": linear(self.width, hidden, self.init_std),
                    "mlp_out": linear(hidden, self.width, residual_std),
                }
                for _ in range(self.num_layers)
            ],
            "final_norm": norm(),
        }
        if not self.tie_embeddings:
            params["output"] = self.init_std * jax.random.normal(next(keys), (self.vocab_size, self.width))
        return params

    def logits(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> Float[Array, "batch candidates response vocab"]:
        """Teacher-forced logits of every response token; the prompt is computed once for all candidates."""
        return self._logits(params, self._teacher_forced(params, prompt, prompt_mask, responses))

    def features(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> Float[Array, "batch candidates response width"]:
        """Outputs of the final norm, in the activations' dtype."""
        x = self._teacher_forced(params, prompt, prompt_mask, responses)
        return self._layer_norm(params["final_norm"], x)

    def output_table(self, params: Params) -> Float[Array, "vocab width"]:
        """The token embedding if it is tied, else the output layer's own matrix."""
        return params["token"] if self.tie_embeddings else params["output"]

    def _teacher_forced(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> Float[Array, "batch candidates response width"]:
        """Hidden states at the input before every response token."""
        prefix, _ = self._prefill(params, prompt, prompt_mask, outputs=False)
        last = jnp.broadcast_to(prompt[:, None, -1:], (*responses.shape[:2], 1))
        tokens = jnp.concatenate([last, responses[:, :, :-1]], axis=2)
        steps = jnp.arange(tokens.shape[2])
        positions = jnp.broadcast_to(prefix.length[:, None, None] + steps, tokens.shape)
        causal = _leading(steps[:, None] >= steps[None, :])

        def attention(layer: int, query: Array, key: Array, value: Array) -> Array:
            return attend(query, (prefix.memory(layer), Memory(key, value, causal)))

        return self._hidden_states(params["blocks"], self._embed(params, tokens, positions), attention)

    def prompt_logits(
        self, params: Params, prompt: Int[Array, "batch prompt"], prompt_mask: Bool[Array, "batch prompt"]
    ) -> Float[Array, "batch prompt_1 vocab"]:
        """Logits of prompt tokens 1..P-1; the caller masks those that follow padding, which mean nothing."""
        _, x = self._prefill(params, prompt, prompt_mask, outputs=True)
        return self._logits(params, x)

    def start(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        num_samples: int,
    ) -> DecodeCache:
        """Prefill the prompt and allocate the cache of `num_samples` responses of each."""
        prefix, _ = self._prefill(params, prompt, prompt_mask, outputs=False)
        shape = (prompt.shape[0], self.num_heads, num_samples, self.response_length, self.head_dim)
        empty = tuple(jnp.zeros(shape, self.dtype) for _ in range(self.num_layers))
        return DecodeCache(prefix, empty, empty)

    def step(
        self,
        params: Params,
        cache: DecodeCache,
        tokens: Int[Array, "batch samples"],
        position: Int[Array, "*batch_samples"],
    ) -> tuple[Float[Array, "batch samples vocab"], DecodeCache]:
        """One incremental step for every sample of every prompt."""
        x, cache = self._stepped(params, cache, tokens, position)
        return self._logits(params, x)[:, :, 0], cache

    def step_features(
        self,
        params: Params,
        cache: DecodeCache,
        tokens: Int[Array, "batch samples"],
        position: Int[Array, "*batch_samples"],
    ) -> tuple[Float[Array, "batch samples width"], DecodeCache]:
        """`step` up to the final norm."""
        x, cache = self._stepped(params, cache, tokens, position)
        return self._layer_norm(params["final_norm"], x)[:, :, 0], cache

    def _stepped(
        self,
        params: Params,
        cache: DecodeCache,
        tokens: Int[Array, "batch samples"],
        position: Int[Array, "*batch_samples"],
    ) -> tuple[Float[Array, "batch samples 1 width"], DecodeCache]:
        """Hidden states at the newest input."""
        position = jnp.asarray(position)
        index = cache.prefix.length[:, None] + position
        positions = jnp.broadcast_to(index, tokens.shape)[:, :, None]
        visible = visible_until(position, self.response_length)
        keys, values = [], []

        def attention(layer: int, query: Array, key: Array, value: Array) -> Array:
            keys.append(write(cache.keys[layer], key, position))
            values.append(write(cache.values[layer], value, position))
            return attend(query, (cache.prefix.memory(layer), Memory(keys[-1], values[-1], visible)))

        x = self._embed(params, tokens[:, :, None], positions)
        x = self._hidden_states(params["blocks"], x, attention)
        return x, DecodeCache(cache.prefix, tuple(keys), tuple(values))

    def _prefill(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        outputs: bool,
    ) -> tuple[PrefixCache, Float[Array, "batch prefix width"]]:
        """Keys and values of all prompt tokens but the last, and the hidden states there.

        Without `outputs` the last block computes only keys and values, because nothing reads its outputs. The
        hidden states are then those that enter it.

        Positions count real tokens, so that left padding changes no probability.
        """
        tokens, mask = prompt[:, :-1], prompt_mask[:, :-1]
        positions = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
        index = jnp.arange(tokens.shape[1])
        visible = _leading(index[:, None] >= index[None, :]) & mask[:, None, None, None, :]
        keys, values = [], []

        def attention(layer: int, query: Array, key: Array, value: Array) -> Array:
            attended = _attend_causally(query, Memory(key, value, visible))
            keys.append(key[:, :, 0])
            values.append(value[:, :, 0])
            return attended

        *earlier, last = params["blocks"]
        blocks = params["blocks"] if outputs else earlier
        # Prompts are sequences with one candidate each.
        x = self._embed(params, tokens, positions)[:, None]
        x = self._hidden_states(blocks, x, attention)
        if not outputs:
            layer = {name: weight[..., self.width :] for name, weight in last["query_key_value"].items()}
            key, value = self._heads(layer, self._layer_norm(last["attention_norm"], x))
            keys.append(key[:, :, 0])
            values.append(value[:, :, 0])
        return PrefixCache(tuple(keys), tuple(values), mask, jnp.sum(mask, axis=1)), x[:, 0]


CAUSAL_BLOCK = 64
"""Queries of a prompt that attend together on CPU."""


def _attend_causally(
    query: Float[Array, "batch heads candidates query head_dim"], memory: Memory
) -> Float[Array, "batch heads candidates query head_dim"]:
    """Attention of positions to themselves and those before.

    On CPU queries go in blocks, each with the keys up to its end: many scores after the diagonal are then
    never computed. Accelerators prefer one large product.
    """
    length = query.shape[3]
    if length <= CAUSAL_BLOCK or jax.default_backend() != "cpu":
        return attend(query, (memory,))
    parts = []
    for start in range(0, length, CAUSAL_BLOCK):
        end = min(start + CAUSAL_BLOCK, length)
        seen = Memory(
            memory.keys[..., :end, :], memory.values[..., :end, :], memory.visible[..., start:end, :end]
        )
        parts.append(attend(query[..., start:end, :], (seen,)))
    return jnp.concatenate(parts, axis=3)


def _leading(visible: Bool[Array, "query key"]) -> Bool[Array, "1 1 1 query key"]:
    """`visible` with axes of batch, heads and candidates in front."""
    return visible[None, None, None]
