"""Laws of particle filtering on bits against enumeration of all particles, and against the joint chain."""

import itertools

import numpy as np
import pytest

from decoding.exact import Tree, target_law, total_variation
from decoding.exact_particles import particle_law
from theory.particle_laws import bits, late_ratios, particles_needed, perfect_share, product_error

TILT = 0.8


def bit_tree(length: int, late: bool) -> Tree:
    """The tree of `tasks.Delay`, with exact values or values one step late."""
    growth = (1 + np.exp(-TILT)) / 2
    exact = [
        np.array([np.exp(-TILT * (h - sum(node))) * growth ** (length - h) for node in _nodes(h)])
        for h in range(length + 1)
    ]
    values = [exact[0], *(np.repeat(level, 2) for level in exact[:-1])] if late else exact
    halves = [np.full((2**h, 2), 0.5) for h in range(length)]
    return Tree(tuple(halves), (np.ones(1), *values[1:-1], exact[-1]))


def _nodes(h: int) -> list[tuple[int, ...]]:
    return list(itertools.product((0, 1), repeat=h))


@pytest.mark.parametrize(("length", "particles"), [(3, 2), (2, 3), (4, 2)])
def test_laws_are_those_of_enumeration(length: int, particles: int) -> None:
    leaves = np.array(_nodes(length))
    share = perfect_share(TILT, particles)
    product = np.where(leaves == 1, share, 1 - share).prod(axis=1)
    np.testing.assert_allclose(product, particle_law(bit_tree(length, late=False), particles), atol=1e-12)
    one = bits(TILT).target
    target = np.where(leaves == 1, one, 1 - one).prod(axis=1)
    np.testing.assert_allclose(target, target_law(bit_tree(length, late=True)), atol=1e-12)
    law = target * late_ratios(leaves, TILT, particles)
    np.testing.assert_allclose(law, particle_law(bit_tree(length, late=True), particles), atol=1e-12)


def test_one_particle_is_the_base_model_and_many_are_the_target() -> None:
    leaves = np.array(_nodes(4))
    one = bits(TILT).target
    target = np.where(leaves == 1, one, 1 - one).prod(axis=1)
    np.testing.assert_allclose(target * late_ratios(leaves, TILT, 1), 1 / 16, atol=1e-12)
    assert perfect_share(TILT, 1) == pytest.approx(0.5)
    errors = [np.abs(late_ratios(leaves, TILT, n) - 1) @ target / 2 for n in (8, 16, 32)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)
    for n in (2, 8):
        assert target @ late_ratios(leaves, TILT, n) == pytest.approx(1)


def test_the_error_of_products_is_that_of_all_responses() -> None:
    leaves = np.array(_nodes(5))
    laws = [np.where(leaves == 1, share, 1 - share).prod(axis=1) for share in (0.6, 0.75)]
    assert product_error(5, 0.6, 0.75) == pytest.approx(total_variation(*laws))


def test_the_least_number_of_particles() -> None:
    needed = particles_needed(64, 1.0, 0.1)
    errors = [product_error(64, perfect_share(1.0, n), bits(1.0).target) for n in (needed - 1, needed)]
    assert errors[0] > 0.1 >= errors[1]


def test_short_responses_are_refused() -> None:
    with pytest.raises(ValueError, match="responses: 1 bits; valid: at least 2"):
        late_ratios(np.zeros((1, 1), int), 1.0, 2)
