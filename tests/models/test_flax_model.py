"""Flax modules as models: what reaches the module, what is refused, and which models are equal."""

from __future__ import annotations

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from oracles import flax_modules

from models import Flax, ModelError, check_model
from models.delta_net import DeltaNet
from models.pure import Structure, parameters

SIZES = {"vocab_size": 7, "prompt_length": 4, "response_length": 3}


def examples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prompts with 0, 2 and 3 tokens of padding, and two responses each."""
    rng = np.random.default_rng(0)
    mask = np.arange(4) >= np.array([0, 2, 3])[:, None]
    return np.where(mask, rng.integers(1, 7, (3, 4)), 0), mask, rng.integers(1, 7, (3, 2, 3))


class Recording(nnx.Module):
    """Logits that show what the module was given: token, position, and whether it is real."""

    def __init__(self, vocab_size: int, max_length: int, prompt_length: int, *, rngs: nnx.Rngs) -> None:
        assert (max_length, prompt_length) == (6, 4)
        self.scale = nnx.Param(jnp.ones(()))

    def __call__(self, tokens: Any, positions: Any, mask: Any) -> Any:
        shown = jnp.stack([tokens, positions, mask.astype(jnp.int32)], axis=-1)
        return self.scale[...] * jnp.pad(shown, ((0, 0), (0, 0), (0, 4))).astype(jnp.float32)


@pytest.mark.long
def test_a_module_gets_real_tokens_first_with_their_positions() -> None:
    model, (prompt, mask, responses) = Flax(**SIZES, module=Recording), examples()
    params = {"scale": jnp.ones(())}
    logits = np.asarray(model.logits(params, prompt, mask, responses))
    for row, length in enumerate((4, 2, 1)):
        for candidate in range(2):
            inputs = [prompt[row, -1], *responses[row, candidate, :-1]]
            np.testing.assert_array_equal(logits[row, candidate, :, 0], inputs)
            np.testing.assert_array_equal(logits[row, candidate, :, 1], length - 1 + np.arange(3))
    assert np.all(logits[..., 2] == 1)
    of_prompt = np.asarray(model.prompt_logits(params, prompt, mask))
    np.testing.assert_array_equal(of_prompt[0, :, 0], prompt[0, :3])
    np.testing.assert_array_equal(of_prompt[1, 2, :3], [prompt[1, 2], 0, 1])


@pytest.mark.long
@pytest.mark.parametrize("kind", [flax_modules.GRU, flax_modules.Transformer])
def test_a_sample_steps_back_on_its_own(kind: type) -> None:
    """Each sample at a position of its own: back to it, then on with other tokens."""
    model, (prompt, mask, responses) = Flax(**SIZES, module=kind), examples()
    params = model.init(jax.random.key(0))
    others = (responses + 1) % 7
    last = np.broadcast_to(prompt[:, None, -1:], (3, 2, 1))
    wrong, right = (np.concatenate([last, each[..., :-1]], axis=2) for each in (others, responses))
    cache = model.start(params, prompt, mask, 2)
    back = np.array([[1, 2], [2, 1], [1, 1]])
    for position in range(3):
        # Of a sample that steps back to p, the inputs before p stay.
        inputs = np.where(position < back, right[..., position], wrong[..., position])
        _, cache = model.step(params, cache, inputs, np.int32(position))
    expected = np.asarray(model.logits(params, prompt, mask, responses))
    for more in range(2):
        position = np.minimum(back + more, 2)
        inputs = np.take_along_axis(right, position[..., None], axis=2)[..., 0]
        logits, cache = model.step(params, cache, inputs, position)
        at = np.take_along_axis(expected, position[..., None, None], axis=2)[:, :, 0]
        np.testing.assert_allclose(logits, at, rtol=1e-4, atol=1e-5)


def test_the_prompts_carry_is_stored_once() -> None:
    model, (prompt, mask, _) = Flax(**SIZES, module=flax_modules.GRU), examples()
    cache = jax.eval_shape(lambda p: model.start(p, prompt, mask, 5), model.init(jax.random.key(0)))
    assert cache.prompt.shape == (3, 16)
    assert cache.after.shape == (3, 5, 3, 16)


class Off(flax_modules.GRU):
    """Samples from another law than it scores."""

    def step(self, carry: Any, tokens: Any) -> Any:
        return super().step(carry, (tokens + 1) % 7)


class Peeking(flax_modules.GRU):
    """Whole sequences are read from their end on."""

    def __call__(self, tokens: Any) -> Any:
        return super().__call__(tokens[:, ::-1])[:, ::-1]


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (Peeking, r"model: Peeking's logits of response token \d change with response tokens from \d on, .*"),
        (
            Off,
            r"model: Off.logits gives response token 0 other logits as the only candidate than among several"
            r", by \S+ of their spread: what it trains is not what it evaluates",
        ),
    ],
)
def test_a_broken_promise_is_named_by_the_module(kind: type, line: str) -> None:
    model, (prompt, mask, responses) = Flax(**SIZES, module=kind), examples()
    params = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
    with pytest.raises(ModelError) as refused:
        check_model(model, params, prompt, mask, responses[:, 0], prompts_too=True)
    assert re.fullmatch(line, str(refused.value))


def test_a_step_back_is_checked() -> None:
    class Stale(Flax):
        """Keeps what was written first."""

        def step(self, params: Any, cache: Any, tokens: Any, position: Any) -> Any:
            logits, new = super().step(params, cache, tokens, position)
            filled = jnp.any(cache.after != 0, axis=-1, keepdims=True)
            return logits, new._replace(after=jnp.where(filled, cache.after, new.after))

    prompt, mask, responses = examples()
    model = Stale(**SIZES, module=flax_modules.GRU)
    params = jax.tree.map(np.asarray, model.init(jax.random.key(0)))
    with pytest.raises(ModelError, match=r"after a step back GRU.step gives other logits of .* token 2"):
        check_model(model, params, prompt, mask, responses[:, 0])


class NoLogits(nnx.Module):
    def __init__(self, vocab_size: int, *, rngs: nnx.Rngs) -> None:
        self.table = nnx.Embed(vocab_size, vocab_size + 1, rngs=rngs)

    def __call__(self, tokens: Any) -> Any:
        return self.table(tokens)


class HalfACarry(flax_modules.GRU):
    initial_carry = None


class SwappedCarry(flax_modules.GRU):
    def step(self, carry: Any, tokens: Any) -> Any:
        return super().step(carry, tokens)[::-1]


class OneCarry(flax_modules.GRU):
    def initial_carry(self, batch_size: int) -> Any:
        return jnp.zeros(16)


class Failing(linen.Module):
    vocab_size: int

    @linen.compact
    def __call__(self, tokens: Any) -> Any:
        return linen.Embed(self.vocab_size, self.vocab_size)(tokens) @ jnp.zeros((3, 3))


REFUSED = [
    ({}, r"\{\} names no class; valid: model.module._target_=my_package.MyLM, or in Python a class.*"),
    (functools.partial(flax_modules.GRU, 3), ".* has positional arguments; valid: keywords only"),
    (functools.partial(flax_modules.GRU, width=np.ones(2)), ".* cannot be compared; valid: numbers, .*"),
    (
        functools.partial(flax_modules.GRU, width="wide"),
        r"GRU: its initialisation fails at line \d+ of oracles.flax_modules: TypeError: .*",
    ),
    (Failing, r"Failing: its initialisation fails at line \d+ of .*test_flax_model: TypeError: .*"),
    (NoLogits, r"NoLogits.__call__ gives float32\[2, 6, 8\]; expected floats \[2, 6, 7\], the last axis .*"),
    (HalfACarry, "HalfACarry has step without initial_carry; valid: both, or neither"),
    (SwappedCarry, r"SwappedCarry.step gives another carry than initial_carry: float32\[2, 7\]; expected .*"),
    (OneCarry, r"OneCarry.initial_carry\(2\) gives float32\[16\]; expected arrays with 2 rows, .*"),
    (
        flax_modules.BatchNormed,
        "BatchNormed.__call__ changes norm.mean, norm.var; valid: a module whose calls change no variable, "
        "so no BatchNorm in training, and no sow",
    ),
    (
        flax_modules.WithDropout,
        "WithDropout.__call__ draws random numbers by dropout.rngs.count; valid: a module without Dropout, "
        "or with deterministic=True",
    ),
    (
        flax_modules.LinenBatchNormed,
        "LinenBatchNormed has the collections batch_stats; valid: only params, so no BatchNorm and no sow",
    ),
]


@pytest.mark.parametrize(("module", "line"), REFUSED)
def test_what_cannot_be_a_model_is_one_line(module: Any, line: str) -> None:
    with pytest.raises(ValueError, match="model") as refused:
        Flax(**SIZES, module=module)
    assert re.fullmatch("model.module: " + line, str(refused.value))


def test_a_class_or_a_field_that_is_not_the_modules_is_one_line() -> None:
    with pytest.raises(
        ValueError, match=r"^model.module._target_: 'dict' is not a class of flax.nnx or flax"
    ):
        Flax(**SIZES, module=dict)
    for name in ("vocab_size", "max_length", "rngs"):
        with pytest.raises(
            ValueError, match=rf"^model.module.{name}: is set by the model; valid: leave it out"
        ):
            Flax(**SIZES, module=functools.partial(flax_modules.GRU, **{name: 3}))


@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
def test_a_module_that_leaves_a_variable_behind_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model.module: Sowing.__call__ changes seen; valid: .* no sow"):
        Flax(**SIZES, module=flax_modules.Sowing)


def test_random_streams_that_decide_nothing_are_no_obstacle() -> None:
    """`nnx.RNN` draws a key for a carry of zeros, and Dropout with rate 0 draws none."""
    assert Flax(**SIZES, module=flax_modules.GRU).separate_paths
    assert Flax(**SIZES, module=functools.partial(flax_modules.WithDropout, rate=0.0)).init(jax.random.key(0))


@pytest.mark.long
def test_models_are_equal_by_class_fields_and_sizes() -> None:
    def model(**fields: Any) -> Flax:
        return Flax(**SIZES, module=functools.partial(flax_modules.GRU, **fields))

    assert model() == Flax(**SIZES, module=flax_modules.GRU)
    assert len({model(width=8), model(width=8), model(width=9), model()}) == 3
    assert model(width=8) != Flax(
        **SIZES | {"vocab_size": 8}, module=functools.partial(flax_modules.GRU, width=8)
    )


@pytest.mark.long
def test_variables_that_are_no_parameters_are_constants() -> None:
    model = Flax(**SIZES, module=flax_modules.Frequencies)
    params = model.init(jax.random.key(0))
    assert set(params) == {"embed", "layers"}
    # The function in the list of layers has no parameters.
    assert set(params["layers"]["layers"]) == {"0", "2"}
    prompt, mask, responses = examples()
    first, second = model.logits(params, prompt, mask, responses)[0, 0, :2]
    assert not np.array_equal(first, second)


class Tied(nnx.Module):
    """One variable under two names, twelve layers in a list, and a parameter in a dictionary."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(2, 2, rngs=rngs)
        self.again = self.first
        self.many = nnx.List([nnx.Linear(index + 1, 1, rngs=rngs) for index in range(12)])
        self.named = nnx.Dict(a=nnx.Param(jnp.arange(3.0)))


@pytest.mark.long
def test_a_module_is_its_structure_and_its_parameters() -> None:
    module = Tied(nnx.Rngs(0))
    params = parameters(module)
    assert type(params["many"]) is list
    assert [layer["kernel"].shape for layer in params["many"]] == [(index + 1, 1) for index in range(12)]
    assert len(jax.tree.leaves(params)) == 2 + 24 + 1
    moved = jax.tree.map(lambda leaf: leaf + 1, params)
    again = Structure.of(lambda: Tied(nnx.Rngs(0))).module(moved)
    assert again.first is again.again
    jax.tree.map(np.testing.assert_array_equal, parameters(again), moved)


class ByRNN(nnx.Module):
    """`nnx.RNN`, whose scan has a step for each token."""

    def __init__(self, vocab_size: int, *, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(vocab_size, 4, rngs=rngs)
        self.rnn = nnx.RNN(nnx.GRUCell(4, 4, rngs=rngs), rngs=rngs)
        self.out = nnx.Linear(4, vocab_size, rngs=rngs)

    def __call__(self, tokens: Any) -> Any:
        return self.out(self.rnn(self.embed(tokens)))


@pytest.mark.long
@pytest.mark.parametrize(
    ("module", "sequential", "recurrent"),
    [
        (ByRNN, True, True),
        (flax_modules.Transformer, False, False),
        (functools.partial(DeltaNet, num_layers=1, width=8, num_heads=2, chunk_size=4), False, True),
        (functools.partial(DeltaNet, num_layers=1, width=8, num_heads=2, chunk_size=1), True, True),
    ],
)
def test_a_scan_over_the_tokens_is_seen(module: Any, sequential: bool, recurrent: bool) -> None:
    model = Flax(**SIZES, module=module)
    assert (model.sequential, model.recurrent) == (sequential, recurrent)


@pytest.mark.long
def test_another_division_keeps_the_module_and_its_parameters() -> None:
    """A table of positions is as long as the model was trained with."""
    model = Flax(**SIZES, module=flax_modules.Transformer)
    params = model.init(jax.random.key(0))
    prompt, mask, responses = examples()
    expected = model.logits(params, prompt, mask, responses)
    longer = np.concatenate([prompt, responses[:, 0, :1]], axis=1)
    moved = model.divided(5, 2)
    mask = np.pad(mask, ((0, 0), (0, 1)), constant_values=True)
    found = moved.logits(params, longer, mask, responses[:, :1, 1:])
    np.testing.assert_allclose(found[:, 0], expected[:, 0, 1:], rtol=1e-4, atol=1e-5)
    shorter = moved.divided(2, 1)
    assert shorter.built_for == (4, 3)
    assert shorter.logits(params, prompt[:, 2:], mask[:, 3:], responses[:, :, :1]).shape == (3, 2, 1, 7)
