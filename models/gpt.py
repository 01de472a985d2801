"""A GPT-2-like transformer: pre-norm blocks, GeLU, learned absolute positions, tied embeddings."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from models.base import Model

Params = dict[str, Any]


class PrefixCache(NamedTuple):
    """Keys and values of the prompt without its last token, one per layer; shared by all responses of a
    prompt."""

    keys: tuple[Float[Array, "batch prefix heads head_dim"], ...]
    values: tuple[Float[Array, "batch prefix heads head_dim"], ...]
    mask: Bool[Array, "batch prefix"]
    length: Int[Array, " batch"]


class DecodeCache(NamedTuple):
    """A `PrefixCache` and, for every sample, the keys and values of what follows the prefix."""

    prefix: PrefixCache
    keys: tuple[Float[Array, "batch samples response heads head_dim"], ...]
    values: tuple[Float[Array, "batch samples response heads head_dim"], ...]


@dataclasses.dataclass(frozen=True)
class GPT(Model):
    """GPT-2's architecture (Radford et al. 2019) as the paper uses it (arXiv 2510.15020, appendix C.1.2).

    Attributes:
        vocab_size, prompt_length, response_length: set from the task.
        num_layers, num_heads, width: the paper's model has 6, 4 and 384.
        mlp_ratio: hidden width of the feed-forward layers over `width`.
        init_std: standard deviation of embeddings and weights (GPT-2: 0.02); matrices that write into the
            residual stream are divided by sqrt(2 num_layers), biases start at 0, norms' gains at 1.
        tie_embeddings: the output layer is the transposed token embedding, as in GPT-2.
        dtype: of activations and matrix products; parameters, norms, softmax and logits stay float32.

    Absolute positions count real tokens, so left padding changes no probability. Embeddings are looked up by
    a one-hot
    matrix product: its gradient is a matrix product too, which on CPU is much faster than a gather's scatter.
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
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"model.{field}: {value!r} is not an integer >= 1")
        if self.width % self.num_heads:
            raise ValueError(
                f"model.width: {self.width} is not a multiple of model.num_heads = {self.num_heads}"
            )
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"model.dtype: {self.dtype!r} is not one of float32, bfloat16")
        if not self.init_std > 0:
            raise ValueError(f"model.init_std: {self.init_std!r} is not a positive number")

    @property
    def max_length(self) -> int:
        """Positions: the prompt and all of the response but its last token, which is never an input."""
        return self.prompt_length + self.response_length - 1

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.num_heads

    def init(self, key: PRNGKeyArray) -> Params:
        """GPT-2's initialisation."""
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
        prefix, _ = self._prefill(params, prompt, prompt_mask, outputs=False)
        last = jnp.broadcast_to(prompt[:, None, -1:], (*responses.shape[:2], 1))
        tokens = jnp.concatenate([last, responses[:, :, :-1]], axis=2)
        steps = jnp.arange(tokens.shape[2])
        positions = jnp.broadcast_to(prefix.length[:, None, None] + steps, tokens.shape)
        x = self._embed(params, tokens, positions)
        causal = steps[:, None] >= steps[None, :]
        for layer, block in enumerate(params["blocks"]):
            query, key, value = self._query_key_value(block, x)
            attended = self._attend(query, prefix, layer, key, value, causal)
            x = self._finish_block(block, x, attended)
        return self._unembed(params, x)

    def prompt_logits(
        self, params: Params, prompt: Int[Array, "batch prompt"], prompt_mask: Bool[Array, "batch prompt"]
    ) -> Float[Array, "batch prompt_1 vocab"]:
        """Logits of prompt tokens 1..P-1; those that follow padding are meaningless and to be masked by the
        caller."""
        _, x = self._prefill(params, prompt, prompt_mask, outputs=True)
        return self._unembed(params, x)

    def start(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        num_samples: int,
    ) -> DecodeCache:
        """Prefill the prompt and make room for `num_samples` responses of each."""
        prefix, _ = self._prefill(params, prompt, prompt_mask, outputs=False)
        shape = (prompt.shape[0], num_samples, self.response_length, self.num_heads, self.head_dim)
        empty = tuple(jnp.zeros(shape, self.dtype) for _ in range(self.num_layers))
        return DecodeCache(prefix, empty, empty)

    def step(
        self,
        params: Params,
        cache: DecodeCache,
        tokens: Int[Array, "batch samples"],
        position: Int[Array, ""],
    ) -> tuple[Float[Array, "batch samples vocab"], DecodeCache]:
        """One incremental step for every sample of every prompt."""
        positions = jnp.broadcast_to(cache.prefix.length[:, None, None] + position, (*tokens.shape, 1))
        x = self._embed(params, tokens[:, :, None], positions)
        visible = (jnp.arange(self.response_length) <= position)[None, :]
        keys, values = [], []
        for layer, block in enumerate(params["blocks"]):
            query, key, value = self._query_key_value(block, x)
            keys.append(jax.lax.dynamic_update_slice_in_dim(cache.keys[layer], key, position, axis=2))
            values.append(jax.lax.dynamic_update_slice_in_dim(cache.values[layer], value, position, axis=2))
            attended = self._attend(query, cache.prefix, layer, keys[-1], values[-1], visible)
            x = self._finish_block(block, x, attended)
        return self._unembed(params, x)[:, :, 0], DecodeCache(cache.prefix, tuple(keys), tuple(values))

    def _prefill(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        outputs: bool,
    ) -> tuple[PrefixCache, Float[Array, "batch prefix width"]]:
        """Keys and values of all prompt tokens but the last, and, if `outputs`, the last layer's outputs
        there.

        Without `outputs` the last layer computes nothing but keys and values: nobody reads the rest.
        """
        tokens, mask = prompt[:, :-1], prompt_mask[:, :-1]
        positions = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
        x = self._embed(params, tokens, positions)
        index = jnp.arange(tokens.shape[1])
        allowed = (index[:, None] >= index[None, :]) & mask[:, None, :]
        keys, values = [], []
        for layer, block in enumerate(params["blocks"]):
            last = layer == self.num_layers - 1
            if last and not outputs:
                key, value = self._key_value(block, x)
            else:
                query, key, value = self._query_key_value(block, x)
                scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
                weights = _softmax(jnp.where(allowed[:, None], scores, -jnp.inf))
                x = self._finish_block(
                    block, x, jnp.einsum("bhqk,bkhd->bqhd", weights.astype(self.dtype), value)
                )
            keys.append(key)
            values.append(value)
        return PrefixCache(tuple(keys), tuple(values), mask, jnp.sum(mask, axis=1)), x

    def _attend(
        self,
        query: Float[Array, "batch candidates query heads head_dim"],
        prefix: PrefixCache,
        layer: int,
        key: Float[Array, "batch candidates key heads head_dim"],
        value: Float[Array, "batch candidates key heads head_dim"],
        visible: Bool[Array, "query key"],
    ) -> Float[Array, "batch candidates query heads head_dim"]:
        """Attention of response positions to the shared prefix and to their own response."""
        to_prefix = jnp.einsum(
            "bnqhd,bkhd->bnhqk", query, prefix.keys[layer], preferred_element_type=jnp.float32
        )
        to_self = jnp.einsum("bnqhd,bnkhd->bnhqk", query, key, preferred_element_type=jnp.float32)
        to_prefix = jnp.where(prefix.mask[:, None, None, None, :], to_prefix, -jnp.inf)
        to_self = jnp.where(visible, to_self, -jnp.inf)
        weights = _softmax(jnp.concatenate([to_prefix, to_self], axis=-1)).astype(self.dtype)
        split = prefix.mask.shape[1]
        from_prefix = jnp.einsum("bnhqk,bkhd->bnqhd", weights[..., :split], prefix.values[layer])
        return from_prefix + jnp.einsum("bnhqk,bnkhd->bnqhd", weights[..., split:], value)

    def _embed(self, params: Params, tokens: Int[Array, "*shape"], positions: Int[Array, "*shape"]) -> Array:
        one_hot = jnp.concatenate(
            [
                jax.nn.one_hot(tokens, self.vocab_size, dtype=self.dtype),
                jax.nn.one_hot(positions, self.max_length, dtype=self.dtype),
            ],
            axis=-1,
        )
        table = jnp.concatenate([params["token"], params["position"]]).astype(self.dtype)
        return one_hot @ table

    def _unembed(self, params: Params, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocab"]:
        table = params["token"] if self.tie_embeddings else params["output"]
        x = _layer_norm(params["final_norm"], x).astype(self.dtype)
        return jnp.einsum("...d,vd->...v", x, table.astype(self.dtype), preferred_element_type=jnp.float32)

    def _linear(self, layer: Params, x: Array) -> Array:
        return x @ layer["kernel"].astype(self.dtype) + layer["bias"].astype(self.dtype)

    def _query_key_value(self, block: Params, x: Array) -> tuple[Array, Array, Array]:
        """Heads of queries (scaled by 1/sqrt(head_dim)), keys and values."""
        normed = _layer_norm(block["attention_norm"], x).astype(self.dtype)
        query, key, value = jnp.split(self._linear(block["query_key_value"], normed), 3, axis=-1)
        return self._heads(query * (1 / math.sqrt(self.head_dim))), self._heads(key), self._heads(value)

    def _key_value(self, block: Params, x: Array) -> tuple[Array, Array]:
        normed = _layer_norm(block["attention_norm"], x).astype(self.dtype)
        layer = {name: weight[..., self.width :] for name, weight in block["query_key_value"].items()}
        key, value = jnp.split(self._linear(layer, normed), 2, axis=-1)
        return self._heads(key), self._heads(value)

    def _heads(self, x: Array) -> Array:
        return x.reshape(*x.shape[:-1], self.num_heads, self.head_dim)

    def _finish_block(self, block: Params, x: Array, attended: Array) -> Array:
        """The residual additions after attention: output projection, then the feed-forward layer."""
        x = x + self._linear(block["attention_out"], attended.reshape(x.shape))
        hidden = self._linear(block["mlp_in"], _layer_norm(block["mlp_norm"], x).astype(self.dtype))
        return x + self._linear(block["mlp_out"], jax.nn.gelu(hidden, approximate=True))


def _layer_norm(norm: Params, x: Array) -> Array:
    """Layer normalisation in float32 with GPT-2's epsilon, 1e-5."""
    return _standardise(x.astype(jnp.float32)) * norm["scale"] + norm["bias"]


def _mean(x: Float[Array, "*batch width"]) -> Float[Array, "*batch 1"]:
    """Mean over the last axis as a matrix product, several times as fast as a reduction on CPU."""
    return x @ jnp.full((x.shape[-1], 1), 1 / x.shape[-1], x.dtype)


@jax.custom_vjp
def _standardise(x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    """(x - mean) / sqrt(variance + 1e-5) over the last axis.

    The gradient is written out because the derived one repeats the reductions, which are slow on CPU.
    """
    return _standardise_forward(x)[0]


def _standardise_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    centred = x - _mean(x)
    rate = jax.lax.rsqrt(_mean(jnp.square(centred)) + 1e-5)
    return centred * rate, (centred * rate, rate)


def _standardise_backward(saved: tuple[Array, Array], gradient: Array) -> tuple[Array]:
    y, rate = saved
    return (rate * (gradient - _mean(gradient) - y * _mean(gradient * y)),)


_standardise.defvjp(_standardise_forward, _standardise_backward)


def _softmax(scores: Float[Array, "... keys"]) -> Float[Array, "... keys"]:
    """Softmax in which a row without any key gives zeros: the rows of left padding, which nobody reads."""
    top = jax.lax.stop_gradient(
        jnp.maximum(jnp.max(scores, axis=-1, keepdims=True), jnp.finfo(jnp.float32).min)
    )
    weights = jnp.exp(scores - top)
    return weights / jnp.maximum(jnp.sum(weights, axis=-1, keepdims=True), 1e-30)
