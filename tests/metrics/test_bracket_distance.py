"""Confidence in the right close bracket, by distance, against a count by hand over the text."""

from collections import Counter
from collections.abc import Callable

import jax
import numpy as np
import pytest
from oracles import brackets

from metrics.bracket_distance import BracketDistance, ranges
from metrics.evaluators import HeldOut, make_held_out
from tasks import FixedDyck, LayeredGraph

TASK = FixedDyck(length=12, max_depth=4, prefix_lengths=(2, 5), mixture={"drawn": 0.8, "cap": 0.2})
EXAMPLES = 40
Score = Callable[[np.ndarray], dict[str, np.ndarray]]


class Table:
    """A model whose parameters are the logits of a batch."""

    def logits(
        self, params: jax.Array, prompt: jax.Array, mask: jax.Array, responses: jax.Array
    ) -> jax.Array:
        return params


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    return make_held_out(TASK, EXAMPLES, 2 * EXAMPLES, 0)


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    shape = (2 * EXAMPLES, 1, TASK.response_length, TASK.vocab_size)
    return 3 * np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def score(held_out: HeldOut) -> Score:
    """Arrays of the evaluator from logits."""
    batch = jax.tree.map(lambda a: a[0], held_out.batches)
    compiled = jax.jit(lambda params: BracketDistance().score(Table(), TASK, params, batch))
    return lambda params: {name: np.asarray(array) for name, array in compiled(params).items()}


@pytest.fixture(scope="module")
def scores(score: Score, logits: np.ndarray) -> dict[str, np.ndarray]:
    return score(logits)


def counted(held_out: HeldOut, logits: np.ndarray) -> list[tuple[Counter[int], Counter[int]]]:
    """States and confident states per example and distance."""
    found = []
    example = jax.tree.map(lambda a: np.asarray(a[0]), held_out.batches).example
    for row in range(held_out.num_examples):
        prompt = TASK.decode(example.prompt[row]).split()[1:]
        response = TASK.decode(example.response[row]).split()
        states: Counter[int] = Counter()
        confident: Counter[int] = Counter()
        for j in range(len(response)):
            string = [*prompt, *response[:j]]
            opened: list[int] = []
            for place, word in enumerate(string):
                if word in brackets.OPENS:
                    opened.append(place)
                else:
                    opened.pop()
            if opened:
                distance = len(string) - opened[-1]
                right = TASK.encode(brackets.CLOSES[brackets.OPENS.index(string[opened[-1]])])[0]
                odds = np.exp(logits[row, 0, j].astype(np.float64))
                states[distance] += 1
                confident[distance] += bool(odds[right] / (odds[3] + odds[4]) > 0.8)
        found.append((states, confident))
    return found


@pytest.mark.long
def test_counts_are_those_by_hand(
    held_out: HeldOut, logits: np.ndarray, scores: dict[str, np.ndarray]
) -> None:
    hand = counted(held_out, logits)
    for name, index in (("states", 0), ("confident", 1)):
        for row, pair in enumerate(hand):
            nonzero = {2 * i + 1: n for i, n in enumerate(scores[name][row].tolist()) if n}
            assert nonzero == {d: n for d, n in pair[index].items() if n}
    assert scores["confident"].sum() > 100
    assert max(d for states, _ in hand for d in states) == 11


def test_shares_weigh_the_classes_by_the_mixture(
    held_out: HeldOut, logits: np.ndarray, scores: dict[str, np.ndarray]
) -> None:
    hand = counted(held_out, logits)
    found = dict(BracketDistance().reduce(scores, held_out))
    for prefix, weights in (
        ("", np.where(held_out.groups == 0, 0.8, 0.2)),
        ("drawn/", held_out.groups == 0),
        ("cap/", held_out.groups == 1),
    ):
        shares = []
        by_distance = [
            [sum(w * pair[i][d] for w, pair in zip(weights, hand, strict=True)) for i in (0, 1)]
            for d in range(1, 12, 2)
        ]
        for states, confident in by_distance:
            shares += [confident / states] if states else []
        assert found[f"{prefix}close_confidence/mean"] == pytest.approx(np.mean(shares))
        states, confident = np.sum([by_distance[2], by_distance[3]], axis=0)
        assert found[f"{prefix}close_confidence/5-7"] == pytest.approx(confident / states)
    assert "close_confidence/9-15" in found
    assert "close_confidence/17-31" not in found, "no string is that long"


def test_pi_d_itself_and_its_opposite(held_out: HeldOut, score: Score) -> None:
    """A model that knows the stack is confident in all states; one that likes the other type in none."""
    batch = jax.tree.map(lambda a: a[0], held_out.batches)
    _, close = jax.jit(jax.vmap(TASK.innermost))(batch.example.latent, batch.example.response)
    knows = 10 * np.eye(TASK.vocab_size, dtype=np.float32)[np.asarray(close)][:, None]
    for params, share in ((knows, 1.0), (-knows, 0.0)):
        found = dict(BracketDistance().reduce(score(params), held_out))
        assert set(found.values()) == {share}


def test_ranges_double_and_leave_no_gap() -> None:
    assert list(ranges(40)) == [(1, 1), (3, 3), (5, 7), (9, 15), (17, 31), (33, 63)]


def test_a_task_without_brackets_is_refused() -> None:
    with pytest.raises(ValueError, match=r"BracketDistance needs a task on brackets .*, not LayeredGraph"):
        BracketDistance().check(LayeredGraph())
    with pytest.raises(ValueError, match="2 is not a number strictly between 0 and 1"):
        BracketDistance(threshold=2)
