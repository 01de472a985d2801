"""Class "parities": each layer's bit is a parity of hidden labels, and no layer tells another's."""

import itertools

import numpy as np
import pytest

from covlab.testing.drawing import draw
from covlab.testing.statistics import chi_square_p
from tasks import LayeredGraph
from tasks.graph_classes import hidden_labels

IDS = 48
"""Of `conf/experiment/figure2_cpu.yaml`, like the depths up to 16."""


def fewest(rows: list[int], num_ids: int) -> int:
    """The least number of ids in which a XOR of some of the labels differs from one of: no id, every id, the
    odd ids, the even ids. Of these four, the graph's construction may say the parity."""
    everyone, odd = (1 << num_ids) - 1, sum(1 << i for i in range(num_ids) if i % 2 == 0)
    combined = [0]
    for row in rows:
        combined += [other ^ row for other in combined]
    known = (0, everyone, odd, everyone ^ odd)
    return min((word ^ plain).bit_count() for word in combined[1:] for plain in known)


def packed(depth: int, num_ids: int, seed: int = 0) -> list[int]:
    """Every layer's labels as one number whose bit i belongs to id i + 1."""
    return [sum(1 << int(i - 1) for i in np.flatnonzero(row)) for row in hidden_labels(depth, num_ids, seed)]


def test_no_combination_of_layers_is_a_parity_of_few_ids() -> None:
    """All 2^16 - 1 sets of layers: to know the XOR of their bits is to know the parity of at least 8 ids, for
    two layers of at least 10."""
    rows = packed(16, IDS)
    assert fewest(rows, IDS) == 8
    pairs = [one ^ other for one, other in itertools.combinations(rows, 2)]
    assert min(fewest([pair], IDS) for pair in pairs) >= 10


def test_dependent_labels_are_found() -> None:
    one, two = packed(2, IDS)
    assert fewest([one, two, one ^ two], IDS) == 0
    assert fewest([one, one ^ 0b101], IDS) == 2


def test_labels_are_halves_of_the_ids_that_deeper_graphs_share() -> None:
    labels = hidden_labels(6, 21, 5)
    assert labels.sum(axis=1).tolist() == [10] * 6
    assert not labels[:, 0].any()
    np.testing.assert_array_equal(labels[:4], hidden_labels(4, 21, 5))
    assert (labels != hidden_labels(6, 21, 6)).any()


@pytest.mark.long
def test_given_the_earlier_layers_the_next_choice_is_fair() -> None:
    """All 2^4 patterns of choices in the branching layers are equally frequent in 3,000 paths."""
    task = LayeredGraph(depth=8, width=2, num_ids=IDS, mixture={"parities": 1.0})
    examples = draw(task, 3000)
    branching = (examples.latent.passable >= 0).all(axis=-1)
    opposes = examples.response[:, 1:-1] % 2 != np.arange(8) % 2
    patterns = [tuple(row) for row in opposes[branching].reshape(-1, 4).tolist()]
    law = dict.fromkeys(itertools.product((False, True), repeat=4), 1 / 16)
    assert chi_square_p(patterns, law) > 1e-3
    # A last layer that repeats the one before it in a fifth of the prompts would be seen.
    leaks = [(a, b, c, c if k % 5 == 0 else d) for k, (a, b, c, d) in enumerate(patterns)]
    assert chi_square_p(leaks, law) < 1e-3
    # The prompts are those of class xor: the two classes differ in the response alone.
    plain = draw(LayeredGraph(depth=8, width=2, num_ids=IDS, mixture={"xor": 1.0}), 3000)
    np.testing.assert_array_equal(examples.prompt, plain.prompt)
