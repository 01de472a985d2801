"""Check that a model keeps the promises of `Model`, on a few examples, before anything is trained."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from models.base import Model, Params
from tasks.compiling import QUICK

EXAMPLES = 2
TOKENS = 1024
"""Most tokens per example in the check: a longer response is changed at fewer positions."""
TOLERANCE = 1e-3
"""Largest difference of two logits that should be equal, over the spread of all logits, in float32. For a
coarser type of parameters, cache or logits it is 8 epsilons of that type."""
_NOISE = 0.17


class ModelError(ValueError):
    """A model that breaks a promise of `Model`, in one line."""


class _Found(NamedTuple):
    """Largest differences, over the spread of the logits.

    Attributes:
        ahead: of the response's logits, by first changed token and predicted token.
        ahead_in_prompt: of the prompt's logits, likewise; None if they are not checked.
        stepped: between `step` and `logits`, by token.
        tolerance: largest difference that is allowed.
    """

    ahead: Float[Array, "changes response"]
    ahead_in_prompt: Float[Array, "changes prompt_1"] | None
    stepped: Float[Array, " response"]
    tolerance: Float[Array, ""]


def check_model(
    model: Model,
    params: Params,
    prompt: Int[np.ndarray, "batch prompt"],
    prompt_mask: Bool[np.ndarray, "batch prompt"],
    responses: Int[np.ndarray, "batch response"],
    prompts_too: bool = False,
) -> None:
    """Refuse a model that reads the token it must predict, or that does not sample what it scores.

    The model runs on a few examples, with a little noise added to its parameters so that none is without
    effect. `logits` must have one entry for each token of the vocabulary. The logits of a token must not
    change with that token or later ones. `step`, token by token, must give what `logits` gives.

    Args:
        model: the model to check, with the lengths and the vocabulary that it will be used with.
        params: parameters of one seed, on the host.
        prompt, prompt_mask, responses: examples of the task; the first `EXAMPLES` are used.
        prompts_too: True to check `prompt_logits` likewise, for training on the prompt's tokens.

    Raises:
        ModelError: one line that says what is wrong, and at which token, counted from 0.
    """
    draw = np.random.default_rng(0)
    prompt, prompt_mask, responses = (
        np.asarray(each)[:EXAMPLES] for each in (prompt, prompt_mask, responses)
    )
    later = _changed(draw, responses, np.ones_like(responses, bool), model.vocab_size)
    prompts = _changed(draw, prompt, prompt_mask, model.vocab_size) if prompts_too else None
    # In full precision: an accelerator's fast matrix products would hide a small difference.
    with jax.default_matmul_precision("highest"):
        found = _measure(model, _moved(draw, params), prompt, prompt_mask, later, prompts)
    found = jax.tree.map(np.asarray, found)
    kind = type(model).__name__
    _refuse_reading_ahead(kind, "response", found.ahead, later.starts, 0, found.tolerance)
    if prompts is not None:
        _refuse_reading_ahead(kind, "prompt", found.ahead_in_prompt, prompts.starts, 1, found.tolerance)
    if np.any(found.stepped > found.tolerance):
        token = int(np.argmax(found.stepped > found.tolerance))
        raise ModelError(
            f"model: {kind}.step gives other logits of response token {token} than {kind}.logits does, by "
            f"{found.stepped[token]:.2g} of their spread: what it samples is not what it scores"
        )


class _Changed(NamedTuple):
    """Sequences: the first is the original, in the others every token from `starts` on is replaced."""

    tokens: Int[np.ndarray, "batch changes_1 length"]
    starts: Int[np.ndarray, " changes"]


def _changed(
    draw: np.random.Generator,
    tokens: Int[np.ndarray, "batch length"],
    mask: Bool[np.ndarray, "batch length"],
    vocab_size: int,
) -> _Changed:
    length = tokens.shape[1]
    count = min(length, max(2, TOKENS // length))
    starts = np.unique(np.linspace(0, length - 1, count).round().astype(int))
    shift = draw.integers(1, max(vocab_size, 2), (len(tokens), len(starts), length))
    replaced = (np.arange(length) >= starts[:, None]) & mask[:, None]
    others = np.where(replaced, (tokens[:, None] + shift) % vocab_size, tokens[:, None])
    return _Changed(np.concatenate([tokens[:, None], others], axis=1).astype(np.int32), starts)


def _moved(draw: np.random.Generator, params: Params) -> Params:
    def move(leaf: Any) -> np.ndarray:
        own = np.asarray(leaf)
        if not jnp.issubdtype(own.dtype, jnp.floating):
            return own
        return (own + _NOISE * (2 * draw.random(own.shape, np.float32) - 1)).astype(own.dtype)

    return jax.tree.map(move, params)


# The function runs once, so that compiling it well would cost more than it saves.
@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def _measure(
    model: Model,
    params: Params,
    prompt: Int[Array, "batch prompt"],
    prompt_mask: Bool[Array, "batch prompt"],
    later: _Changed,
    prompts: _Changed | None,
) -> _Found:
    responses = jnp.asarray(later.tokens)
    logits = model.logits(params, prompt, prompt_mask, responses)
    _require_shape(model, "logits", logits, (*responses.shape, model.vocab_size))
    own = logits[:, 0]
    finite = jnp.isfinite(own)
    spread = jnp.max(jnp.where(finite, own, -jnp.inf)) - jnp.min(jnp.where(finite, own, jnp.inf))

    def apart(one: Array, other: Array) -> Array:
        """Largest difference over batch and vocabulary; infinities of one sign are equal, and so are NaNs."""
        same = (one == other) | (jnp.isnan(one) & jnp.isnan(other))
        gap = jnp.where(same, 0.0, jnp.nan_to_num(jnp.abs(one - other), nan=jnp.inf))
        return jnp.max(gap, axis=(0, -1)) / jnp.where(spread > 0, spread, 1.0)

    cache = model.start(params, prompt, prompt_mask, 1)
    fed = jnp.concatenate([prompt[:, -1:], responses[:, 0, :-1]], axis=1)

    def step(cache: Any, at: tuple[Array, Array]) -> tuple[Any, Array]:
        position, tokens = at
        given, cache = model.step(params, cache, tokens[:, None], position)
        _require_shape(model, "step", given, (prompt.shape[0], 1, model.vocab_size))
        return cache, given[:, 0]

    _, stepped = jax.lax.scan(step, cache, (jnp.arange(fed.shape[1]), fed.T))
    ahead_in_prompt = None
    if prompts is not None:
        batch, count, length = prompts.tokens.shape
        masks = jnp.repeat(prompt_mask, count, axis=0)
        given = model.prompt_logits(params, jnp.asarray(prompts.tokens).reshape(-1, length), masks)
        _require_shape(model, "prompt_logits", given, (batch * count, length - 1, model.vocab_size))
        given = given.reshape(batch, count, length - 1, -1)
        real = (prompt_mask[:, :-1] & prompt_mask[:, 1:])[:, None, :, None]
        given = jnp.where(real, given, 0.0)
        ahead_in_prompt = apart(given[:, 1:], given[:, :1])
    floats = [
        leaf.dtype
        for leaf in jax.tree.leaves((params, cache, logits))
        if jnp.issubdtype(leaf.dtype, jnp.floating)
    ]
    tolerance = max(TOLERANCE, *(8 * float(jnp.finfo(dtype).eps) for dtype in floats))
    return _Found(
        apart(logits[:, 1:], logits[:, :1]),
        ahead_in_prompt,
        apart(jnp.swapaxes(stepped, 0, 1), own),
        jnp.asarray(tolerance),
    )


def _require_shape(model: Model, name: str, given: Array, shape: tuple[int, ...]) -> None:
    if given.shape != shape or not jnp.issubdtype(given.dtype, jnp.floating):
        raise ModelError(
            f"model: {type(model).__name__}.{name} gives {given.dtype}{list(given.shape)}; expected floats "
            f"{list(shape)}, the last axis the vocabulary's"
        )


def _refuse_reading_ahead(
    kind: str,
    part: str,
    ahead: Float[np.ndarray, "changes predictions"],
    starts: Int[np.ndarray, " changes"],
    first: int,
    tolerance: float,
) -> None:
    """Raise if logits differ where they must not; `first` is the token that the first logits predict."""
    predicted = first + np.arange(ahead.shape[1])
    wrong = (ahead > tolerance) & (predicted <= starts[:, None])
    if wrong.any():
        change, place = np.argwhere(wrong)[0]
        raise ModelError(
            f"model: {kind}'s logits of {part} token {predicted[place]} change with {part} tokens from "
            f"{starts[change]} on, by {ahead[change, place]:.2g} of their spread: it reads what it must "
            "predict"
        )
