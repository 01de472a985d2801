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
        further: of the logits of each head for tokens after the next one, by first changed token and
            position.
        ahead_alone: as `ahead`, of each response as the only candidate; None if that is no other computation.
        alone: between one candidate and several, by token; None likewise.
        stepped: between `step` and `logits`, by token.
        back: likewise, of a changed response, after a step back to the token before the change.
        tolerance: largest difference that is allowed.
    """

    ahead: Float[Array, "changes response"]
    ahead_in_prompt: Float[Array, "changes prompt_1"] | None
    further: tuple[Float[Array, "changes _"], ...]
    ahead_alone: Float[Array, "changes response"] | None
    alone: Float[Array, " response"] | None
    stepped: Float[Array, " response"]
    back: Float[Array, " response"]
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
    change with that token or later ones. `step`, token by token, must give what `logits` gives, also after a
    step back.

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
    kind = model.label
    for ahead in filter(lambda each: each is not None, (found.ahead, found.ahead_alone)):
        _refuse_reading_ahead(kind, "response", ahead, later.starts, 0, found.tolerance)
    if prompts is not None:
        _refuse_reading_ahead(kind, "prompt", found.ahead_in_prompt, prompts.starts, 1, found.tolerance)
    for d, further in enumerate(found.further, start=1):
        # The logits of y_t from d tokens ahead have read what those of y_t-d have.
        _refuse_reading_ahead(kind, "response", further, later.starts, 0, found.tolerance, further=d)
    sampled = "than {kind}.logits does, by {by} of their spread: what it samples is not what it scores"
    differences = (
        (found.stepped, "{kind}.step gives other logits of response token {token} " + sampled),
        (found.back, "after a step back {kind}.step gives other logits of response token {token} " + sampled),
        (
            found.alone,
            "{kind}.logits gives response token {token} other logits as the only candidate than among "
            "several, by {by} of their spread: what it trains is not what it evaluates",
        ),
    )
    for by, line in differences:
        if by is not None and np.any(by > found.tolerance):
            token = int(np.argmax(by > found.tolerance))
            raise ModelError("model: " + line.format(kind=kind, token=token, by=f"{by[token]:.2g}"))


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
        gap = jnp.abs(one - other)
        gap = jnp.where(same, 0.0, jnp.where(jnp.isnan(gap), jnp.inf, gap))
        return jnp.max(gap, axis=(0, -1)) / jnp.where(spread > 0, spread, 1.0)

    further: tuple[Array, ...] = ()
    if model.ahead:
        real_tokens = jnp.ones(responses.shape, bool)
        passed = model.training_pass(params, prompt, prompt_mask, responses, real_tokens, model.ahead)
        further = tuple(apart(head[:, 1:], head[:, :1]) for head in passed.ahead)
    # The original response, then a changed one, from a step back to the first of its changed inputs on.
    steps, change = jnp.arange(responses.shape[2]), (len(later.starts) - 1) // 3
    first = jnp.minimum(later.starts[change] + 1, responses.shape[2] - 1)
    positions = jnp.concatenate([steps, jnp.maximum(steps, first)])
    last = jnp.broadcast_to(prompt[:, None, -1:], (*responses.shape[:2], 1))
    inputs = jnp.concatenate([last, responses[:, :, :-1]], axis=2)
    again = jnp.take(inputs[:, 1 + change], positions[steps.size :], axis=1)
    fed = jnp.concatenate([inputs[:, 0], again], axis=1)

    def step(cache: Any, at: tuple[Array, Array]) -> tuple[Any, Array]:
        position, tokens = at
        given, cache = model.step(params, cache, tokens[:, None], position)
        _require_shape(model, "step", given, (prompt.shape[0], 1, model.vocab_size))
        return cache, given[:, 0]

    cache = model.start(params, prompt, prompt_mask, 1)
    _, every = jax.lax.scan(step, cache, (positions, fed.T))
    stepped, back = jnp.split(jnp.swapaxes(every, 0, 1), 2, axis=1)
    logits_alone = None
    if model.separate_paths:
        count = responses.shape[1]
        logits_alone = model.logits(
            params,
            jnp.repeat(prompt, count, axis=0),
            jnp.repeat(prompt_mask, count, axis=0),
            responses.reshape(-1, 1, responses.shape[2]),
        ).reshape(logits.shape)
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
        further,
        None if logits_alone is None else apart(logits_alone[:, 1:], logits_alone[:, :1]),
        None if logits_alone is None else apart(logits_alone[:, 0], own),
        apart(stepped, own),
        jnp.where(steps < first, 0.0, apart(back, logits[:, 1 + change])),
        jnp.asarray(tolerance),
    )


def _require_shape(model: Model, name: str, given: Array, shape: tuple[int, ...]) -> None:
    if given.shape != shape or not jnp.issubdtype(given.dtype, jnp.floating):
        raise ModelError(
            f"model: {model.label}.{name} gives {given.dtype}{list(given.shape)}; expected floats "
            f"{list(shape)}, the last axis the vocabulary's"
        )


def _refuse_reading_ahead(
    kind: str,
    part: str,
    ahead: Float[np.ndarray, "changes predictions"],
    starts: Int[np.ndarray, " changes"],
    first: int,
    tolerance: float,
    further: int = 0,
) -> None:
    """Raise if logits differ where they must not; `first` is the token after those that the first logits have
    read, and `further` how much later the token is that they predict."""
    predicted = first + np.arange(ahead.shape[1])
    wrong = (ahead > tolerance) & (predicted <= starts[:, None])
    if wrong.any():
        change, place = np.argwhere(wrong)[0]
        raise ModelError(
            f"model: {kind}'s logits of {part} token {predicted[place] + further} change with {part} tokens "
            f"from {starts[change]} on, by {ahead[change, place]:.2g} of their spread: it reads what it must "
            "predict"
        )
