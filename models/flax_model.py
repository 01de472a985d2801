"""A Flax module of your own behind the `Model` seam."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from models.base import Model, Params
from models.cache import put
from models.flax_network import SIZES, Network, network
from tasks import PAD
from tasks.checks import whole


class Whole(NamedTuple):
    """Cache of a module without a carry: all tokens, from which every step computes anew.

    Attributes:
        prompt: real tokens first, padding after them.
        length: number of the prompt's real tokens.
        inputs: what was written at the positions of every response.
    """

    prompt: Int[Array, "batch prompt"]
    length: Int[Array, " batch"]
    inputs: Int[Array, "batch samples response"]


class Carries(NamedTuple):
    """Cache of a module with a carry.

    Attributes:
        prompt: carry after the prompt without its last token, leaves (batch, ...), shared by all responses.
        after: carry after every position of every response, leaves (batch, samples, response, ...).
    """

    prompt: Any
    after: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Flax(Model):
    """A `flax.nnx` or `flax.linen` module as a model.

    Attributes:
        vocab_size, prompt_length, response_length: set from the task.
        module: class of the module (`_target_`) and its fields.

    The module's `__call__(tokens)` maps tokens (batch, length) to logits (batch, length, vocab) of the next
    token at every position. A sequence is the prompt's real tokens, then the response's, and padding at the
    end. `__call__` gets `positions` (0, 1, ...) and `mask` (False at padding), both (batch, length), if its
    signature names them.

    Two optional methods make decoding fast. `initial_carry(batch_size)` is a pytree of arrays with leading
    axis batch. `step(carry, tokens)` reads one token (batch,) of each sequence, and returns the carry and the
    logits (batch, vocab). Without them every decoded token costs a pass over the whole sequence.

    The class is constructed with its fields, with `rngs=nnx.Rngs(key)` if it is an nnx module, and with those
    of `vocab_size`, `max_length` (of a sequence), `prompt_length` and `response_length` that its signature
    names.

    Raises:
        ValueError: one line, before anything is compiled: the class is not one of Flax, its constructor or a
            method fails or gives other shapes, or a call changes the module's state.

    Example:
        >>> from flax import nnx
        >>> class Bigram(nnx.Module):
        ...     def __init__(self, vocab_size, rngs):
        ...         self.table = nnx.Embed(vocab_size, vocab_size, rngs=rngs)
        ...     def __call__(self, tokens):
        ...         return self.table(tokens)
        >>> model = Flax(vocab_size=5, prompt_length=3, response_length=2, module=Bigram)
        >>> jax.tree.map(jnp.shape, model.init(jax.random.key(0)))
        {'table': {'embedding': (5, 5)}}
    """

    vocab_size: int
    prompt_length: int
    response_length: int
    module: Any = dataclasses.field(default_factory=dict, metadata={"free": True})
    # The sizes that the module is constructed with; None: those above. A default factory hides the field from
    # the configuration.
    built_for: tuple[int, int] | None = dataclasses.field(default_factory=lambda: None)

    def __post_init__(self) -> None:
        for field in ("vocab_size", "prompt_length", "response_length"):
            whole(f"model.{field}", getattr(self, field), 1)
        self._network  # noqa: B018

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    def divided(self, prompt_length: int, response_length: int) -> Flax:
        """As stated in `Model`; the module stays the one that was constructed for this model's lengths."""
        return dataclasses.replace(
            self,
            prompt_length=prompt_length,
            response_length=response_length,
            built_for=self.built_for or (self.prompt_length, self.response_length),
        )

    @property
    def label(self) -> str:
        """Name of the module's class."""
        return str(self._parts[0].__name__)

    @property
    def init_in_turn(self) -> bool:
        """True: initialisers may use LAPACK (Flax's cells start orthogonal), whose batched decompositions
        sometimes never return on CPU (jaxlib 0.10.2: 2 of 2 runs within 300 calls, none of 4,500 in turn)."""
        return True

    @property
    def separate_paths(self) -> bool:
        """True with a carry: `logits` of one candidate calls the module, of several it scans `step`."""
        return self._network.has_carry

    @property
    def sequential(self) -> bool:
        """True if the module's `__call__` scans the tokens, as `nnx.RNN` does."""
        return self._network.scans_tokens

    @property
    def recurrent(self) -> bool:
        """True for a module with a carry, or one that scans the tokens."""
        return self._network.has_carry or self.sequential

    @functools.cached_property
    def _parts(self) -> tuple[Any, Mapping[str, Any]]:
        """Class and fields of the module."""
        if isinstance(self.module, functools.partial):
            if self.module.args:
                raise ValueError(
                    f"model.module: {self.module!r} has positional arguments; valid: keywords only"
                )
            return self.module.func, self.module.keywords
        if inspect.isclass(self.module):
            return self.module, {}
        raise ValueError(
            f"model.module: {self.module!r} names no class; valid: model.module._target_=my_package.MyLM, or "
            "in Python a class or a functools.partial of one"
        )

    @functools.cached_property
    def _identity(self) -> Hashable:
        kind, fields = self._parts
        sizes = (self.vocab_size, self.prompt_length, self.response_length, self.built_for)
        return (*sizes, kind, _hashable(fields))

    @functools.cached_property
    def _network(self) -> Network:
        if self._identity not in _NETWORKS:
            prompt, response = self.built_for or (self.prompt_length, self.response_length)
            sizes = (self.vocab_size, prompt, response, prompt + response - 1)
            _NETWORKS[self._identity] = network(*self._parts, dict(zip(SIZES, sizes, strict=True)))
        return _NETWORKS[self._identity]

    def init(self, key: PRNGKeyArray) -> Params:
        """Parameters as the module's constructor draws them: of an nnx module its `nnx.Param`s."""
        return self._network.init(key)

    def logits(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        responses: Int[Array, "batch candidates response"],
    ) -> Float[Array, "batch candidates response vocab"]:
        """Logits of every response token.

        With a carry and several candidates each is scored by `step` from the prompt's carry. Otherwise
        `__call__` gets whole sequences.
        """
        if responses.shape[1] > 1 and self._network.has_carry:
            return self._scanned(params, prompt, prompt_mask, responses)
        length = jnp.sum(prompt_mask, axis=1, dtype=jnp.int32)
        last = jnp.broadcast_to(prompt[:, None, -1:], (*responses.shape[:2], 1))
        inputs = jnp.concatenate([last, responses[..., :-1]], axis=-1)
        every = jnp.full((), inputs.shape[-1] - 1, jnp.int32)
        return self._at_inputs(params, _front(prompt, length), length, inputs, every)

    def prompt_logits(
        self, params: Params, prompt: Int[Array, "batch prompt"], prompt_mask: Bool[Array, "batch prompt"]
    ) -> Float[Array, "batch prompt_1 vocab"]:
        """Logits of prompt tokens 1..P-1; the caller masks those that follow padding, which mean nothing."""
        length = jnp.sum(prompt_mask, axis=1, dtype=jnp.int32)
        size = prompt.shape[1]
        mask = jnp.arange(size) < length[:, None]
        logits = self._network.logits(params, _front(prompt, length), mask)
        place = jnp.maximum(jnp.arange(size - 1) - (size - length)[:, None], 0)
        return jnp.take_along_axis(logits, place[..., None], axis=1)

    def start(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        prompt_mask: Bool[Array, "batch prompt"],
        num_samples: int,
    ) -> Whole | Carries:
        """With a carry, the prompt is read once for all samples."""
        shape = (prompt.shape[0], num_samples, self.response_length)
        if not self._network.has_carry:
            length = jnp.sum(prompt_mask, axis=1, dtype=jnp.int32)
            return Whole(_front(prompt, length), length, jnp.full(shape, PAD, jnp.int32))
        carry = self._prompt_carry(params, prompt, prompt_mask)
        return Carries(
            carry, jax.tree.map(lambda leaf: jnp.zeros((*shape, *leaf.shape[1:]), leaf.dtype), carry)
        )

    def step(
        self,
        params: Params,
        cache: Whole | Carries,
        tokens: Int[Array, "batch samples"],
        position: Int[Array, "*batch_samples"],
    ) -> tuple[Float[Array, "batch samples vocab"], Whole | Carries]:
        """One token of every sample, from the carry of the position before."""
        position = jnp.asarray(position, jnp.int32)
        if isinstance(cache, Whole):
            inputs = put(cache.inputs, tokens, position)
            logits = self._at_inputs(params, cache.prompt, cache.length, inputs, position)
            at = jnp.broadcast_to(position, tokens.shape)[..., None, None]
            return jnp.take_along_axis(logits, at, axis=2)[:, :, 0], cache._replace(inputs=inputs)
        before = jax.tree.map(lambda first, after: _before(first, after, position), cache.prompt, cache.after)
        carry, logits = self._rows(params, before, tokens)
        after = jax.tree.map(lambda stored, new: put(stored, new, position), cache.after, carry)
        return logits, Carries(cache.prompt, after)

    def _at_inputs(
        self,
        params: Params,
        prompt: Int[Array, "batch prompt"],
        length: Int[Array, " batch"],
        inputs: Int[Array, "batch candidates response"],
        last: Int[Array, "*batch_samples"],
    ) -> Float[Array, "batch candidates response vocab"]:
        """Logits after every one of the inputs up to `last`; input 0 is the prompt's last token."""
        batch, candidates, steps = inputs.shape
        size = prompt.shape[1] + steps - 1
        place = jnp.arange(size) - (length[:, None] - 1)
        own = jnp.take_along_axis(inputs, jnp.clip(place, 0, steps - 1)[:, None], axis=2)
        ahead = jnp.pad(prompt, ((0, 0), (0, steps - 1)), constant_values=PAD)[:, None]
        real = place[:, None] <= jnp.broadcast_to(last, (batch, candidates))[..., None]
        tokens = jnp.where(real, jnp.where(place[:, None] < 0, ahead, own), PAD)
        rows = batch * candidates
        logits = self._network.logits(params, tokens.reshape(rows, size), real.reshape(rows, size))
        outputs = (length[:, None] - 1 + jnp.arange(steps))[:, None, :, None]
        return jnp.take_along_axis(logits.reshape(batch, candidates, size, -1), outputs, axis=2)

    def _scanned(self, params: Params, prompt: Array, prompt_mask: Array, responses: Array) -> Array:
        carry = jax.tree.map(
            lambda leaf: jnp.repeat(leaf[:, None], responses.shape[1], axis=1),
            self._prompt_carry(params, prompt, prompt_mask),
        )
        last = jnp.broadcast_to(prompt[:, None, -1:], (*responses.shape[:2], 1))
        inputs = jnp.concatenate([last, responses[..., :-1]], axis=-1)
        _, logits = jax.lax.scan(functools.partial(self._rows, params), carry, jnp.moveaxis(inputs, -1, 0))
        return jnp.moveaxis(logits, 0, 2)

    def _prompt_carry(self, params: Params, prompt: Array, prompt_mask: Array) -> Any:
        """Carry after all prompt tokens but the last."""
        length = jnp.sum(prompt_mask, axis=1, dtype=jnp.int32)

        def read(carry: Any, at: tuple[Array, Array]) -> tuple[Any, None]:
            tokens, index = at
            new, _ = self._network.step(params, carry, tokens)
            return jax.tree.map(lambda old, each: _where(index < length - 1, each, old), carry, new), None

        first = self._network.call(params, "initial_carry", prompt.shape[0])
        fed = _front(prompt, length)[:, :-1].T
        return jax.lax.scan(read, first, (fed, jnp.arange(fed.shape[0])))[0]

    def _rows(self, params: Params, carry: Any, tokens: Int[Array, "batch samples"]) -> tuple[Any, Array]:
        """`step` of the module for (batch, samples) sequences."""
        flat = jax.tree.map(lambda leaf: leaf.reshape(tokens.size, *leaf.shape[2:]), carry)
        new, logits = self._network.step(params, flat, tokens.reshape(-1))
        new = jax.tree.map(lambda leaf: leaf.reshape(*tokens.shape, *leaf.shape[1:]), new)
        return new, logits.reshape(*tokens.shape, -1)


_NETWORKS: dict[Hashable, Network] = {}
"""The network of every model: constructing and asking a module once is enough."""


def _hashable(value: Any) -> Hashable:
    """A value of a field, to compare models by."""
    if isinstance(value, Mapping):
        return frozenset((key, _hashable(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, value))
    try:
        hash(value)
    except TypeError:
        raise ValueError(
            f"model.module: {value!r} cannot be compared; valid: numbers, texts, lists, mappings, functions"
        ) from None
    # 1, 1.0 and True are equal, and not the same setting.
    return type(value), value


def _front(prompt: Int[Array, "batch prompt"], length: Int[Array, " batch"]) -> Int[Array, "batch prompt"]:
    """The real tokens first, then padding."""
    size = prompt.shape[1]
    place = jnp.arange(size) + (size - length)[:, None]
    moved = jnp.take_along_axis(prompt, jnp.minimum(place, size - 1), axis=1)
    return jnp.where(place < size, moved, PAD).astype(jnp.int32)


def _where(condition: Bool[Array, " batch"], one: Array, other: Array) -> Array:
    return jnp.where(condition.reshape(-1, *[1] * (one.ndim - 1)), one, other)


def _before(first: Array, after: Array, position: Int[Array, "*batch_samples"]) -> Array:
    """Carry before `position`, (batch, samples, ...): that after the position before, or the prompt's."""
    if position.ndim == 0:
        stored = jax.lax.dynamic_index_in_dim(after, jnp.maximum(position - 1, 0), axis=2, keepdims=False)
    else:
        at = jnp.maximum(position - 1, 0).reshape(*position.shape, *[1] * (after.ndim - 2))
        stored = jnp.take_along_axis(after, at, axis=2)[:, :, 0]
    begins = (position == 0).reshape(*position.shape, *[1] * (stored.ndim - position.ndim))
    return jnp.where(begins, first[:, None], stored)
