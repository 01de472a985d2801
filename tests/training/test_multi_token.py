"""Multi-token prediction: its loss by plain loops, its minimiser, and its limit k = 1."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models import Forward, Model
from training import CrossEntropy, MultiToken, Scores
from training.batch_loss import batch_loss
from training.sources import TrainingBatch

pytestmark = pytest.mark.long

V, H = 3, 4


@dataclasses.dataclass(frozen=True)
class Tables(Model):
    """Head d has a table of the logits of y_t for every y_<t-d; its tables lie at [d][t]."""

    vocab_size: int = V
    prompt_length: int = 3
    response_length: int = H
    ahead: int = H - 1

    def init(self, key: Any) -> Any:
        keys = iter(jax.random.split(key, H * H))
        return [
            [jax.random.normal(next(keys), (V ** max(t - d, 0), V)) for t in range(H)]
            for d in range(self.ahead + 1)
        ]

    def _read(self, tables: Any, responses: Any, d: int) -> Any:
        powers = V ** jnp.arange(H)
        return jnp.stack([tables[t][responses[..., : t - d] @ powers[: t - d]] for t in range(d, H)], axis=-2)

    def logits(self, params: Any, prompt: Any, prompt_mask: Any, responses: Any) -> Any:
        return self._read(params[0], responses, 0)

    def training_pass(
        self, params: Any, prompt: Any, prompt_mask: Any, responses: Any, response_mask: Any, heads: int = 0
    ) -> Forward:
        further = [self._read(params[d], responses, d) for d in range(1, heads + 1)]
        return Forward(self.logits(params, prompt, prompt_mask, responses), tuple(further))

    def prompt_logits(self, params: Any, prompt: Any, prompt_mask: Any) -> Any:
        return jnp.zeros((*prompt[:, 1:].shape, V)).at[..., 1].set(1.0)

    def start(self, *_: Any) -> Any:
        raise NotImplementedError

    def step(self, *_: Any) -> Any:
        raise NotImplementedError


MODEL = Tables()
PARAMS = MODEL.init(jax.random.key(0))


def batch(responses: np.ndarray, lengths: np.ndarray) -> TrainingBatch:
    """Prompts with padding; one response each."""
    rows = len(responses)
    prompt = np.random.default_rng(0).integers(0, V, (rows, 3))
    prompt_mask = np.arange(3) >= np.arange(rows)[:, None] % 3
    mask = np.arange(H) < lengths[:, None]
    responses, mask = jnp.asarray(responses)[:, None], jnp.asarray(mask)[:, None]
    return TrainingBatch(
        jnp.asarray(prompt), jnp.asarray(prompt_mask), responses, mask, jnp.zeros(rows, int), None
    )


RAGGED = batch(np.random.default_rng(1).integers(0, V, (5, H)), np.array([4, 3, 1, 2, 0]))


def log_law(logits: np.ndarray) -> np.ndarray:
    return logits - math.log(math.fsum(math.exp(each) for each in logits))


def by_hand(k: int, ahead_weight: float, prompt_weight: float, normalisation: str) -> float:
    """The mean loss of RAGGED, position by position, head by head."""
    tables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), PARAMS)
    losses = []
    for row in range(5):
        tokens = [int(y) for y in np.asarray(RAGGED.responses)[row, 0]]
        length = int(np.asarray(RAGGED.response_mask)[row].sum())
        loss = 0.0
        for j in range(1, k + 1):
            own, targets = 0.0, 0.0
            for position in range(length):
                if position + j > length:
                    continue
                target = position + j - 1
                prefix = sum(y * V**i for i, y in enumerate(tokens[:position]))
                own -= log_law(tables[j - 1][target][prefix])[tokens[target]]
                targets += 1
            if j == 1:
                prompt, seen = np.asarray(RAGGED.prompt)[row], np.asarray(RAGGED.prompt_mask)[row]
                for i in range(1, 3):
                    if seen[i - 1] and seen[i]:
                        own -= prompt_weight * log_law(np.array([0.0, 1.0, 0.0]))[prompt[i]]
                        targets += prompt_weight
            if normalisation == "token" and targets:
                own /= targets
            loss += own * (1 if j == 1 else ahead_weight)
        losses.append(loss)
    return math.fsum(losses) / 5


@pytest.mark.parametrize("normalisation", ["sequence", "token"])
@pytest.mark.parametrize(
    ("k", "ahead_weight", "prompt_weight"), [(1, 1.0, 0.0), (2, 1.0, 0.0), (4, 1.0, 0.0), (4, 0.3, 0.5)]
)
def test_losses_of_a_plain_loop(
    k: int, ahead_weight: float, prompt_weight: float, normalisation: Any
) -> None:
    objective = MultiToken(
        k=k, ahead_weight=ahead_weight, prompt_weight=prompt_weight, normalisation=normalisation
    )
    expected = by_hand(k, ahead_weight, prompt_weight, normalisation)
    assert float(batch_loss(MODEL, objective, PARAMS, RAGGED)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("normalisation", ["sequence", "token"])
def test_one_token_is_cross_entropy_to_the_bit(normalisation: Any) -> None:
    def found(objective: CrossEntropy) -> Any:
        return jax.jit(jax.value_and_grad(lambda p: batch_loss(MODEL, objective, p, RAGGED)))(PARAMS)

    one, plain = MultiToken(k=1, normalisation=normalisation), CrossEntropy(normalisation=normalisation)
    jax.tree.map(np.testing.assert_array_equal, found(one), found(plain))


def test_heads_that_are_not_asked_for_have_no_gradient() -> None:
    gradient = jax.grad(lambda p: batch_loss(MODEL, MultiToken(k=2), p, RAGGED))(PARAMS)
    sizes = [sum(float(jnp.abs(leaf).sum()) for leaf in tables) for tables in gradient]
    assert sizes[0] > 0
    assert sizes[1] > 0
    assert sizes[2:] == [0, 0]


def test_the_best_heads_are_the_marginal_laws_given_what_they_read() -> None:
    """pi_D gives each of the 27 beginnings of a response a share of 1/27 to 27/27, and the last token is a
    function of the first two, so that each head's best law and loss are known by enumeration."""
    k, draws = 3, []
    for count, (a, b, c) in enumerate(itertools.product(range(V), repeat=3), start=1):
        draws += [(a, b, c, (a + b) % V)] * count
    data = np.array(draws)
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, -30.0, np.float32), PARAMS)
    best = 0.0
    for d in range(k):
        for t in range(d, H):
            prefixes = data[:, : t - d] @ (V ** np.arange(H))[: t - d]
            for prefix in np.unique(prefixes):
                own = data[prefixes == prefix, t]
                law = np.bincount(own, minlength=V) / len(own)
                params[d][t][prefix] = np.log(np.maximum(law, 1e-30))
                best -= len(own) / len(data) * float(np.sum(law[law > 0] * np.log(law[law > 0])))
    every = batch(data, np.full(len(data), H))

    def loss(p: Any) -> Any:
        return batch_loss(MODEL, MultiToken(k=k), p, every)

    value, slope = jax.jit(jax.value_and_grad(loss))(params)
    assert float(value) == pytest.approx(best, rel=1e-5)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slope)) < 1e-6
    other = jax.tree.map(lambda leaf: leaf + np.random.default_rng(0).normal(0, 0.1, leaf.shape), params)
    assert float(loss(other)) > best + 1e-3


def test_gradients_are_finite_whatever_stands_at_masked_positions() -> None:
    mask = jnp.asarray([[True, True, False, False]])
    tokens = jnp.asarray([[-1.0, -2.0, -jnp.inf, jnp.nan]])
    ahead = jnp.asarray([[[jnp.nan, -3.0, -jnp.inf, jnp.nan], [jnp.inf, jnp.nan, -5.0, -jnp.inf]]])

    def loss(tokens: Any, ahead: Any) -> Any:
        return jnp.sum(MultiToken(k=3, normalisation="token")(Scores(tokens, mask, ahead=ahead)))

    value, (slope, further) = jax.value_and_grad(loss, argnums=(0, 1))(tokens, ahead)
    assert float(value) == pytest.approx(1.5 + 3.0)
    np.testing.assert_array_equal(slope, [[-0.5, -0.5, 0, 0]])
    np.testing.assert_array_equal(further, [[[0, -1, 0, 0], [0, 0, 0, 0]]])


def test_bad_settings_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^objective\.k: 0 is not an integer >= 1$"):
        MultiToken(k=0)
    with pytest.raises(ValueError, match=r"^objective\.ahead_weight: -1 is not a number >= 0$"):
        MultiToken(ahead_weight=-1)
    with pytest.raises(ValueError, match=r"^scores: 1 further heads; objective\.k = 4 needs 3$"):
        MultiToken()(Scores(jnp.zeros((2, 4)), jnp.ones((2, 4), bool), ahead=jnp.zeros((2, 1, 4))))
