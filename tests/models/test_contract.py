"""Models that break a promise of `Model` are named before they are trained; the project's own keep all."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.toy import TabularModel

from models import GPT, Linear, Model, TeacherlessGPT, check_model
from models.contract import _NOISE, TOKENS, _changed, _moved
from tasks import AutoregressiveLinear, stream

SIZES = {"vocab_size": 12, "prompt_length": 6, "response_length": 5}
SMALL = {"num_layers": 1, "num_heads": 2, "width": 16}


def checked(model: Model, prompts_too: bool = False) -> None:
    """Random examples; the first prompt is padded."""
    rng = np.random.default_rng(0)
    prompt = rng.integers(1, model.vocab_size, (3, model.prompt_length))
    mask = np.ones(prompt.shape, bool)
    mask[0, :2] = False
    responses = rng.integers(1, model.vocab_size, (3, model.response_length))
    params = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
    check_model(model, params, np.where(mask, prompt, 0), mask, responses, prompts_too)


@pytest.mark.long
@pytest.mark.parametrize(
    "model",
    [
        GPT(**SIZES, **SMALL),
        GPT(**SIZES, **SMALL, dtype="bfloat16"),
        TeacherlessGPT(**SIZES, **SMALL),
        TabularModel(),
    ],
    ids=lambda model: f"{type(model).__name__}-{getattr(model, 'dtype', '')}",
)
def test_models_that_keep_the_promises_pass(model: Model) -> None:
    checked(model, prompts_too=True)


@pytest.mark.long
def test_a_linear_model_passes_on_its_task() -> None:
    """It starts at 0, where every token has one logit whatever came before: the check moves it."""
    task = AutoregressiveLinear()
    model = Linear(task.vocab_size, task.prompt_length, task.response_length).for_task(task)
    examples = jax.vmap(lambda key: task.sample(key))(jax.random.split(stream(0, "check"), 2))
    params = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
    check_model(model, params, examples.prompt, examples.prompt_mask, examples.response)
    looking = LinearThatLooks(**vars(model))
    with pytest.raises(ValueError, match="it reads what it must predict"):
        check_model(looking, params, examples.prompt, examples.prompt_mask, examples.response)


class LinearThatLooks(Linear):
    def logits(self, params: Any, prompt: Any, mask: Any, responses: Any) -> Any:
        return super().logits(params, prompt, mask, jnp.roll(responses, -1, axis=-1))


@dataclasses.dataclass(frozen=True)
class Peeking(GPT):
    """Reads its response `by` tokens ahead."""

    by: int = 1

    def _teacher_forced(self, params: Any, prompt: Any, mask: Any, responses: Any) -> Any:
        return super()._teacher_forced(params, prompt, mask, jnp.roll(responses, -self.by, axis=-1))


@dataclasses.dataclass(frozen=True)
class PeekingAtTheEnd(GPT):
    """The last token's logits know the last token."""

    def logits(self, params: Any, prompt: Any, mask: Any, responses: Any) -> Any:
        shown = jax.nn.one_hot(responses[..., -1], self.vocab_size)
        return super().logits(params, prompt, mask, responses).at[..., -1, :].add(shown)


@dataclasses.dataclass(frozen=True)
class PeekingAtPrompts(GPT):
    def prompt_logits(self, params: Any, prompt: Any, mask: Any) -> Any:
        return super().prompt_logits(params, jnp.roll(prompt, -1, axis=-1), mask)


@dataclasses.dataclass(frozen=True)
class Late(GPT):
    """Samples with every position's embedding one off."""

    def step(self, params: Any, cache: Any, tokens: Any, position: Any) -> Any:
        moved = {**params, "position": jnp.roll(params["position"], 1, axis=0)}
        return super().step(moved, cache, tokens, position)


@dataclasses.dataclass(frozen=True)
class Wide(GPT):
    def logits(self, params: Any, prompt: Any, mask: Any, responses: Any) -> Any:
        return jnp.pad(super().logits(params, prompt, mask, responses), ((0, 0),) * 3 + ((0, 1),))


@pytest.mark.long
@pytest.mark.parametrize(
    ("model", "line"),
    [
        (
            Peeking(**SIZES, **SMALL),
            r"model: Peeking's logits of response token 1 change with response tokens from 1 on, by \S+ of "
            r"their spread: it reads what it must predict",
        ),
        (
            PeekingAtTheEnd(**SIZES, **SMALL),
            r"model: PeekingAtTheEnd's logits of response token 4 change with response tokens from 4 on, .*",
        ),
        (
            PeekingAtPrompts(**SIZES, **SMALL),
            r"model: PeekingAtPrompts's logits of prompt token \d change with prompt tokens from \d on, .*",
        ),
        (
            Late(**SIZES, **SMALL),
            r"model: Late.step gives other logits of response token 0 than Late.logits does, by \S+ of their "
            r"spread: what it samples is not what it scores",
        ),
        (
            Wide(**SIZES, **SMALL),
            r"model: Wide.logits gives float32\[2, 6, 5, 13\]; expected floats \[2, 6, 5, 12\], the last "
            r"axis the vocabulary's",
        ),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Model) else "",
)
def test_a_broken_promise_is_one_line(model: Model, line: str) -> None:
    with pytest.raises(ValueError, match="model") as refused:
        checked(model, prompts_too=True)
    assert re.fullmatch(line, str(refused.value))


@dataclasses.dataclass(frozen=True)
class Planted(Model):
    """Logits of spread 4 whatever the tokens. `step` is off by `by` times the spread at its n-th call."""

    call: int
    by: float
    dtype: str = "float32"
    vocab_size: int = 4
    prompt_length: int = 2
    response_length: int = 7

    def row(self) -> Any:
        return jnp.asarray([0.0, 1.0, 4.0, -jnp.inf])

    def init(self, key: Any) -> Any:
        return {}

    def logits(self, params: Any, prompt: Any, mask: Any, responses: Any) -> Any:
        return jnp.broadcast_to(self.row(), (*responses.shape, 4))

    def prompt_logits(self, params: Any, prompt: Any, mask: Any) -> Any:
        return jnp.broadcast_to(self.row(), (*prompt[:, 1:].shape, 4))

    def start(self, params: Any, prompt: Any, mask: Any, num_samples: int) -> Any:
        return jnp.int32(0), jnp.zeros(1, self.dtype)

    def step(self, params: Any, cache: Any, tokens: Any, position: Any) -> Any:
        off = jnp.where(cache[0] == self.call, 4 * self.by, 0.0)
        return jnp.broadcast_to(self.row().at[1].add(off), (*tokens.shape, 4)), (cache[0] + 1, cache[1])


@pytest.mark.long
@pytest.mark.parametrize(
    ("planted", "line"),
    [
        (Planted(4, 0.9e-3), ""),
        (Planted(0, 1.1e-3), "Planted.step gives other logits of response token 0 .* by 0.0011 of"),
        (Planted(4, -1.1e-3), "Planted.step gives other logits of response token 4 .* by 0.0011 of"),
        (Planted(6, float("nan")), "Planted.step gives other logits of response token 6 .* by inf of"),
        # The second pass begins at token 3 of 7; what it does not compute again has no error.
        (Planted(7 + 2, 1.0), ""),
        (Planted(7 + 3, 1.1e-3), "after a step back Planted.step gives other logits of response token 3 "),
        (Planted(7 + 6, 1.1e-3), "after a step back Planted.step gives other logits of response token 6 "),
        # 8 epsilons of bfloat16 are 2^-4.
        (Planted(4, 0.0624, "bfloat16"), ""),
        (Planted(4, 0.0626, "bfloat16"), "Planted.step gives other logits of response token 4 "),
    ],
)
def test_differences_are_of_the_spread_and_named_by_their_first_token(planted: Planted, line: str) -> None:
    if not line:
        checked(planted, prompts_too=True)
        return
    with pytest.raises(ValueError, match=f"^model: {line}"):
        checked(planted, prompts_too=True)


def test_a_logit_that_is_the_same_infinity_or_nan_is_no_difference() -> None:
    class Constant(Planted):
        """One finite logit: the spread is 0, and differences are not divided by it."""

        def row(self) -> Any:
            return jnp.asarray([-jnp.inf, 0.0, jnp.nan, jnp.inf])

    checked(Constant(0, 0.0))
    with pytest.raises(ValueError, match=r"token 2 than .* by 1 of their spread"):
        checked(Constant(2, 0.25))


def test_parameters_are_moved_by_uniform_noise() -> None:
    draw = np.random.default_rng(0)
    given = {"floats": np.ones(4000, "f"), "whole": np.arange(3), "short": np.ones(2, jnp.bfloat16)}
    found = _moved(draw, given)
    noise = found["floats"].astype(float) - 1
    assert np.abs(noise).max() <= _NOISE * (1 + 1e-6)
    # Four standard errors of the mean and of the mean square of uniform numbers.
    assert abs(noise.mean()) < 4 * _NOISE / np.sqrt(3 * 4000)
    assert np.mean(noise**2) == pytest.approx(_NOISE**2 / 3, rel=4 * np.sqrt(0.8 / 4000))
    np.testing.assert_array_equal(found["whole"], given["whole"])
    assert {name: leaf.dtype for name, leaf in found.items()} == {n: a.dtype for n, a in given.items()}


@pytest.mark.parametrize("length", [1, 2, 7, 3 * TOKENS])
def test_what_is_changed(length: int) -> None:
    """Every token from a start on, to another one; nothing before it, and no padding."""
    rng = np.random.default_rng(1)
    tokens, mask = rng.integers(0, 5, (2, length)), rng.random((2, length)) < 0.8
    found = _changed(rng, tokens, mask, 5)
    assert found.starts[0] == 0
    assert found.starts[-1] == length - 1
    assert len(found.starts) == min(length, max(2, TOKENS // length))
    np.testing.assert_array_equal(found.tokens[:, 0], tokens)
    for row, start in enumerate(found.starts, 1):
        changed = (np.arange(length) >= start) & mask
        np.testing.assert_array_equal(found.tokens[:, row] != tokens, changed)
    assert found.tokens.max() < 5
