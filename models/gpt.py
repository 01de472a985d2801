"""GPT-2's transformer: pre-norm blocks, GELU, learned absolute positions, tied embeddings.

`Transformer` is the forward pass. `GPT` says which keys a query sees: in the prompt, with teacher forcing,
and with a decoding cache.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from models.base import Dtype, Model
from models.cache import (
    DecodeCache,
    PrefixCache,
    attend_causally,
    leading,
    visible_until,
    with_prompt,
    write,
)
from models.gradients import attend, lookup
from models.layers import Memory
from models.nnx_layers import Dense, Norm, Normals, in_heads, joined
from models.one_pass import response_states
from models.pure import Structure, parameters
from models.target import platform
from tasks.checks import choice, flag, real, whole

Params = dict[str, Any]
Attention = Callable[[int, Any, Array, Array], Any]
"""(layer, query, key, value) -> attended, arrays of shape (batch, heads, candidates, length, head_dim).
Without a query (None) keys and values are only kept."""


class Transformer(nnx.Module):
    """The network of a `GPT`. Parameters are float32, activations and products have the model's dtype."""

    def __call__(self, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length vocab"]:
        """Logits of the next token at every position of sequences without padding."""
        index = jnp.arange(tokens.shape[1])
        causal = leading(index[:, None] >= index[None, :])

        def attention(layer: int, query: Array, key: Array, value: Array) -> Array:
            return attend_causally(query, Memory(key, value, causal))

        x = self.embed(tokens, jnp.broadcast_to(index, tokens.shape))[:, None]
        return self.logits(self.hidden_states(x, attention))[:, 0]

    def embed(self, tokens: Int[Array, "*shape"], positions: Int[Array, "*shape"]) -> Array:
        """Token embedding plus position embedding."""
        token, position = self.token[...].astype(self.dtype), self.position[...].astype(self.dtype)
        return lookup(token, tokens) + lookup(position, positions)

    def hidden_states(
        self, x: Float[Array, "batch candidates length width"], attention: Attention, outputs: bool = True
    ) -> Float[Array, "batch candidates length width"]:
        """`run` of all blocks."""
        return run(self.blocks, x, attention, outputs=outputs)

    def logits(self, x: Float[Array, "*batch width"]) -> Float[Array, "*batch vocab"]:
        """Logits of the next token from hidden states: the output table times the final layer norm."""
        table = (self.token if self.output is None else self.output)[...].astype(self.dtype)
        rows = self.final_norm(x).reshape(-1, x.shape[-1])
        logits = jnp.einsum("nd,vd->nv", rows, table, preferred_element_type=jnp.float32)
        return logits.reshape(*x.shape[:-1], table.shape[0])

    def __init__(self, model: GPT, key: PRNGKeyArray) -> None:
        """Initial parameters, see `GPT.init`."""
        normals = Normals(jax.random.split(key, 3 + 4 * model.num_layers))

        def table(rows: int) -> nnx.Param[Array]:
            return normals(model.init_std, (rows, model.width))

        self.token, self.position = table(model.vocab_size), table(model.max_length)
        self.blocks = nnx.List([Block(model, normals) for _ in range(model.num_layers)])
        self.final_norm = Norm(model.width, model.dtype)
        self.output = None if model.tie_embeddings else table(model.vocab_size)
        normals.draw()
        self.dtype = model.dtype


class Block(nnx.Module):
    """x + attention(layer norm(x)), then x + MLP(layer norm(x))."""

    def heads(
        self, x: Float[Array, "batch candidates length width"], first: int = 0
    ) -> tuple[Float[Array, "batch heads candidates length head_dim"], ...]:
        """Query, key and value of every position, without the `first` of them."""
        columns = first * self.num_heads * self.head_dim
        projected = self.query_key_value(self.attention_norm(x), columns)
        return in_heads(projected, self.num_heads, self.head_dim)

    def outputs(
        self,
        x: Float[Array, "batch candidates length width"],
        attended: Float[Array, "batch heads candidates length head_dim"],
    ) -> Float[Array, "batch candidates length width"]:
        """The block's outputs from its inputs and the attended values."""
        x = x + self.attention_out(joined(attended))
        hidden = self.mlp_in(self.mlp_norm(x))
        return x + self.mlp_out(jax.nn.gelu(hidden, approximate=True))

    def __init__(self, model: GPT, normals: Normals) -> None:
        def dense(fan_in: int, fan_out: int, std: float) -> Dense:
            return Dense(fan_in, fan_out, std, model.dtype, normals)

        width, hidden = model.width, model.mlp_ratio * model.width
        residual_std = model.init_std / math.sqrt(2 * model.depth)
        self.attention_norm = Norm(width, model.dtype)
        self.query_key_value = dense(width, 3 * width, model.init_std)
        self.attention_out = dense(width, width, residual_std)
        self.mlp_norm = Norm(width, model.dtype)
        self.mlp_in = dense(width, hidden, model.init_std)
        self.mlp_out = dense(hidden, width, residual_std)
        self.num_heads, self.head_dim = model.num_heads, model.head_dim


def run(
    blocks: Sequence[Block],
    x: Float[Array, "batch candidates length width"],
    attention: Attention,
    first: int = 0,
    outputs: bool = True,
) -> Float[Array, "batch candidates length width"]:
    """Outputs of `blocks`.

    `attention` gets the number of the layer, counted from `first`, and queries scaled by 1 / sqrt(head_dim),
    and returns softmax(q k^T) v over visible keys. Without `outputs` the last block computes keys and values
    alone: `attention` gets no query (None), and the result is what enters that block.
    """
    for layer, block in enumerate(blocks, start=first):
        if not outputs and layer == first + len(blocks) - 1:
            attention(layer, None, *block.heads(x, first=1))
            return x
        query, key, value = block.heads(x)
        x = block.outputs(x, attention(layer, query * (1 / math.sqrt(block.head_dim)), key, value))
    return x


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
        choice("model.dtype", self.dtype, ("float32", "bfloat16"))
        real("model.init_std", self.init_std, above=0)
        flag("model.tie_embeddings", self.tie_embeddings)

    @property
    def max_length(self) -> int:
        """Number of positions: the prompt and the response without its last token, which is never an
        input."""
        return self.prompt_length + self.response_length - 1

    @property
    def depth(self) -> int:
        """Number of blocks that a token passes."""
        return self.num_layers

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.width // self.num_heads

    @property
    def separate_paths(self) -> bool:
        """True on accelerators, where one candidate and its prompt are one sequence: `models.one_pass`."""
        return platform() != "cpu"

    def computing(self, dtype: Dtype) -> GPT:
        """This model with activations and products in `dtype`, of a model in float32."""
        return self if self.dtype == "bfloat16" else dataclasses.replace(self, dtype=dtype)

    def module(self, key: PRNGKeyArray) -> Transformer:
        """The network as a `flax.nnx` module with the parameters of `init(key)`.

        `nnx.tabulate(model.module(key), tokens)` shows it. Training reads only its structure.
        """
        return Transformer(self, key)

    def init(self, key: PRNGKeyArray) -> Params:
        """GPT-2's initialisation.

        Embeddings and weights are normal with standard deviation `init_std` (GPT-2: 0.02). Those that write
        into the residual stream are divided by sqrt(2 num_layers). Biases start at 0, gains of norms at 1.
        """
        params: Params = parameters(self.module(key))
        return params

    def _network(self, params: Params) -> Transformer:
        network: Transformer = _structure(self).module(params)
        return network

    def logits(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> Float[Array, "batch candidates response vocab"]:
        """Teacher-forced logits of every response token; the prompt is computed once for all candidates."""
        network = self._network(params)
        return network.logits(self._teacher_forced(network, prompt, prompt_mask, responses))

    def features(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> Float[Array, "batch candidates response width"]:
        """Outputs of the final norm, in the activations' dtype."""
        network = self._network(params)
        return network.final_norm(self._teacher_forced(network, prompt, prompt_mask, responses))

    def output_table(self, params: Params) -> Float[Array, "vocab width"]:
        """The token embedding if it is tied, else the output layer's own matrix."""
        return params["token"] if self.tie_embeddings else params["output"]

    def _teacher_forced(
        self,
        network: Transformer,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> Float[Array, "batch candidates response width"]:
        """Hidden states at the input before every response token."""
        if platform() != "cpu" and responses.shape[1] == 1 and type(network) is Transformer:
            own = parameters(network)
            return response_states(own, prompt, prompt_mask, responses, self.num_heads, self.dtype)
        prefix, _ = self._prefill(network, prompt, prompt_mask, outputs=False)
        inputs = self._inputs(prefix, prompt, responses)
        return network.hidden_states(network.embed(*inputs), with_prompt(prefix, responses.shape[2]))

    def _inputs(
        self,
        prefix: PrefixCache,
        prompt: Int[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> tuple[Int[Array, "batch candidates response"], Int[Array, "batch candidates response"]]:
        """Inputs before every response token, and their positions."""
        last = jnp.broadcast_to(prompt[:, None, -1:], (*responses.shape[:2], 1))
        tokens = jnp.concatenate([last, responses[:, :, :-1]], axis=2)
        steps = jnp.arange(tokens.shape[2])
        return tokens, jnp.broadcast_to(prefix.length[:, None, None] + steps, tokens.shape)

    def prompt_logits(
        self, params: Params, prompt: Int[Array, "batch prompt"], prompt_mask: Bool[Array, "batch prompt"]
    ) -> Float[Array, "batch prompt_1 vocab"]:
        """Logits of prompt tokens 1..P-1; the caller masks those that follow padding, which mean nothing."""
        network = self._network(params)
        _, x = self._prefill(network, prompt, prompt_mask, outputs=True)
        return network.logits(x)

    def start(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        num_samples: int,
    ) -> DecodeCache:
        """Prefill the prompt and allocate the cache of `num_samples` responses of each."""
        prefix, _ = self._prefill(self._network(params), prompt, prompt_mask, outputs=False)
        rows = (prompt.shape[0], self.num_heads, num_samples, self.response_length)
        keys, values = (
            tuple(jnp.zeros((*rows, of_layer.shape[-1]), self.dtype) for of_layer in kept)
            for kept in (prefix.keys, prefix.values)
        )
        return DecodeCache(prefix, keys, values)

    def step(
        self,
        params: Params,
        cache: DecodeCache,
        tokens: Int[Array, "batch samples"],
        position: Int[Array, "*batch_samples"],
    ) -> tuple[Float[Array, "batch samples vocab"], DecodeCache]:
        """One incremental step for every sample of every prompt."""
        network = self._network(params)
        x, cache = self._stepped(network, cache, tokens, position)
        return network.logits(x)[:, :, 0], cache

    def step_features(
        self,
        params: Params,
        cache: DecodeCache,
        tokens: Int[Array, "batch samples"],
        position: Int[Array, "*batch_samples"],
    ) -> tuple[Float[Array, "batch samples width"], DecodeCache]:
        """`step` up to the final norm."""
        network = self._network(params)
        x, cache = self._stepped(network, cache, tokens, position)
        return network.final_norm(x)[:, :, 0], cache

    def _stepped(
        self,
        network: Transformer,
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

        x = network.hidden_states(network.embed(tokens[:, :, None], positions), attention)
        return x, DecodeCache(cache.prefix, tuple(keys), tuple(values))

    def _prefill(
        self,
        network: Transformer,
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
        visible = leading(index[:, None] >= index[None, :]) & mask[:, None, None, None, :]
        keys, values = [], []

        def attention(layer: int, query: Array | None, key: Array, value: Array) -> Array | None:
            keys.append(key[:, :, 0])
            values.append(value[:, :, 0])
            return None if query is None else attend_causally(query, Memory(key, value, visible))

        # Prompts are sequences with one candidate each.
        x = network.hidden_states(network.embed(tokens, positions)[:, None], attention, outputs)
        return PrefixCache(tuple(keys), tuple(values), mask, jnp.sum(mask, axis=1)), x[:, 0]


@functools.cache
def _structure(model: GPT) -> Structure:
    return Structure.of(lambda: model.module(jax.random.key(0)))
