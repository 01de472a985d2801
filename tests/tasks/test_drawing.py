import ast
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tasks import categorical, drawing, stream
from tasks.drawing import SMALLEST, bernoulli, from_words, gumbel, log_of, unit

ROOT = Path(__file__).parents[2]
PACKAGES = (
    *("tasks", "models", "decoding", "metrics", "training", "tracking"),
    *("theory", "covlab", "experiments", "benchmarks"),
)
COARSE = ("categorical", "choice", "bernoulli", "gumbel", "exponential", "PRNGKey", "key")
"""Functions of `jax.random` that lose small probabilities, or make keys of an ambient kind."""
UNIFORM = {
    "decoding/estimates.py": "errors of known size, and the sign of one",
    "models/delta_net.py": "initial weights of a convolution",
    "models/linear_model.py": "a radius",
    "tasks/path_star.py": "priorities, of which the order counts",
}
"""Files that call `jax.random.uniform`, with the purpose; none compares the result with a probability."""


def words(value: int) -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(np.uint32(value >> 32)), jnp.asarray(np.uint32(value & 0xFFFFFFFF))


@pytest.mark.long
@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(2**64 - 2**41, 2**64 - 1)))
def test_a_uniform_number_keeps_all_digits_of_its_64_bits(value: int) -> None:
    exact = min((value + 0.5) / 2**64, 1 - 2.0**-24)
    assert float(from_words(*words(value))) == pytest.approx(exact, rel=2.0**-23)


def test_the_ends_of_the_uniform_numbers() -> None:
    assert float(from_words(*words(0))) == 2.0**-65
    assert float(from_words(*words(1))) == 1.5 * 2.0**-64
    assert float(from_words(*words(2**32))) == pytest.approx(2.0**-32, rel=1e-7)
    assert float(from_words(*words(2**64 - 1))) == 1 - 2.0**-24
    # Every word counts: 2^12 neighbours in the high word, and with it 0 in the low one, are 2^12 numbers.
    for shift in (0, 32):
        column = np.arange(4096, dtype=np.uint32)
        zero = np.zeros_like(column)
        pair = (zero, column) if shift == 0 else (column, zero)
        found = np.asarray(from_words(*map(jnp.asarray, pair)), np.float64)
        assert (np.diff(found) > 0).all()


@pytest.mark.long
def test_uniform_numbers_are_uniform_on_every_scale() -> None:
    found = np.asarray(unit(stream(0, "uniform"), (2**18,)), np.float64)
    for scale in (1.0, 2.0**-4, 2.0**-8):
        assert stats.kstest(found[found < scale] / scale, "uniform").pvalue > 1e-3
    own = np.asarray(jax.vmap(lambda key: unit(key, (4,)))(jax.random.split(stream(1, "uniform"), 2**14)))
    assert stats.kstest(own.reshape(-1), "uniform").pvalue > 1e-3
    assert np.unique(own).size > 0.99 * own.size


def test_the_bits_of_a_number_are_those_of_a_key_below() -> None:
    """A key that is drawn from must therefore not be folded or split for other purposes."""
    key = stream(0, "spent")
    below = [jax.random.key_data(jax.random.fold_in(key, i)) for i in range(6)]
    found = np.asarray(unit(key, (2, 3))).reshape(-1)
    np.testing.assert_array_equal(found, [from_words(*each) for each in below])


@pytest.mark.parametrize("p", [1e-3, 1e-6, 1e-7, 1e-10, 1e-14, SMALLEST])
@pytest.mark.parametrize("likely", [0.1, 1.0, 3.0])
def test_a_rare_entry_is_drawn_where_its_probability_says(
    p: float, likely: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With E the exponential clock of the likely entry, the rare one is drawn up to u = 1 - exp(-p E/(1-p)):
    the mean over E is p. So the threshold is the probability."""
    edge = -math.expm1(-p / (1 - p) * likely)
    other = np.float32(-math.expm1(-likely))
    likely = -math.log1p(-float(other))
    edge = -math.expm1(-p / (1 - p) * likely)
    for factor, wanted in ((1 - 1e-4, 0), (1 + 1e-4, 1)):
        numbers = jnp.asarray(np.array([edge * factor, other], np.float32))
        monkeypatch.setattr(drawing, "unit", lambda key, shape, numbers=numbers: numbers)
        assert int(categorical(stream(0), log_of([p, 1 - p]))) == wanted
        monkeypatch.undo()


@pytest.mark.long
def test_draws_have_the_law_of_the_weights() -> None:
    law = np.array([0.5, 0.0, 0.3, 0.15, 0.05])
    drawn = np.asarray(categorical(stream(0, "law"), log_of(law) + 7.0, (2**16,)))
    counts = np.bincount(drawn, minlength=5)
    assert counts[1] == 0
    assert stats.chisquare(counts[law > 0], 2**16 * law[law > 0]).pvalue > 1e-3
    assert drawn.dtype == np.int32


@pytest.mark.long
def test_draws_of_a_batch_of_shorter_types_and_of_nothing() -> None:
    key, weights = stream(0, "batch"), jnp.log(jnp.asarray([[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]]))
    drawn = categorical(key, weights, (4, 2))
    assert drawn.shape == (4, 2, 3)
    assert not np.asarray(drawn)[..., 2].any()
    short = weights.astype(jnp.bfloat16)
    np.testing.assert_array_equal(categorical(key, short), categorical(key, short.astype(jnp.float32)))
    assert int(categorical(key, jnp.full((3,), -jnp.inf))) == 0


def test_a_coin_of_small_probability_falls_by_the_number() -> None:
    p = jnp.asarray([0.0, 1e-10, 0.25, 1.0])
    fallen = np.asarray(jax.vmap(lambda key: bernoulli(key, p))(jax.random.split(stream(0, "coin"), 2**14)))
    assert not fallen[:, :2].any()
    assert fallen[:, 3].all()
    assert stats.binomtest(int(fallen[:, 2].sum()), 2**14, 0.25).pvalue > 1e-3


def test_noise_has_gumbels_law() -> None:
    found = np.asarray(gumbel(stream(0, "noise"), (2**16,)), np.float64)
    assert stats.kstest(found, stats.gumbel_r.cdf).pvalue > 1e-3


def calls(tree: ast.AST) -> set[str]:
    """Names of the functions of `jax.random` that are mentioned."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("jax.random", "random", "jrandom"):
            found.add(node.attr)
        if isinstance(node, ast.ImportFrom) and node.module == "jax.random":
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.long
def test_no_product_file_draws_or_makes_keys_by_jaxs_defaults() -> None:
    uniform, coarse = set(), {}
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            found = calls(ast.parse(file.read_text(encoding="utf-8")))
            if "uniform" in found and "jax" in file.read_text(encoding="utf-8"):
                uniform.add(name)
            if bad := sorted(found.intersection(COARSE)):
                coarse[name] = bad
    # `compare_figures` scatters dots with NumPy's generator.
    assert uniform - {"experiments/compare/figures.py"} == set(UNIFORM)
    fair = {"tasks/layered_graph.py": ["bernoulli"]}
    # The models' structure is traced, and no number of it is drawn.
    abstract = {"models/flax_network.py": ["key"], "models/gpt.py": ["key"]}
    assert coarse == {"tasks/streams.py": ["key"]} | fair | abstract


def test_keys_below_are_those_of_nested_splits() -> None:
    key = stream(0, "below")
    left, right = jax.random.split(key)
    wanted = [((), (2,)), ((1,), (4,)), ((1, 3, 0), (2, 3)), ((0,), ())]
    found = drawing.below(key, wanted)
    third = jax.random.split(jax.random.split(right, 4)[3])[0]
    expected = [jnp.stack([left, right]), jax.random.split(right, 4), jax.random.split(third, (2, 3))]
    expected.append(jax.random.fold_in(left, 0))
    for own, keys in zip(found, expected, strict=True):
        np.testing.assert_array_equal(own, jax.random.key_data(keys), strict=True)


def test_a_number_of_a_path_may_be_traced() -> None:
    key = stream(0, "below")
    own = jax.jit(jax.vmap(lambda turn: drawing.below(key, [((turn, 0), (3,)), ((turn, 5), ())])))
    some, one = own(jnp.arange(2))
    for turn in range(2):
        first, last = jax.random.split(jax.random.fold_in(key, turn), 6)[jnp.array([0, 5])]
        np.testing.assert_array_equal(some[turn], jax.random.key_data(jax.random.split(first, 3)))
        np.testing.assert_array_equal(one[turn], jax.random.key_data(jax.random.fold_in(last, 0)))


@pytest.mark.long
def test_numbers_of_words_are_those_of_their_key() -> None:
    key, weights = stream(0, "together"), log_of((0.2, 0.5, 0.3))
    for shape in ((), (2, 3), (7,)):
        (own,) = drawing.below(key, [((5,), shape)])
        expected = jax.random.uniform(jax.random.fold_in(key, 5), shape)
        np.testing.assert_array_equal(drawing.uniform(own), expected, strict=True)
    for number in range(20):
        (own,) = drawing.below(key, [((number,), (3,))])
        expected = categorical(jax.random.fold_in(key, number), weights)
        np.testing.assert_array_equal(drawing.categorical_of(own, weights), expected, strict=True)
