"""Events of early warnings: closed form of the class-blind model, and plain oracles."""

import math

import numpy as np
import pytest

from metrics.coverage_events import coverage_events, paired_lower_bound

PROMPTS = 200


def class_blind(masses: list[float]) -> dict[str, np.ndarray]:
    """Two classes of as many prompts, weighing .9 and .1; the model puts p on the majority's response."""
    groups = np.repeat([0, 1], PROMPTS)
    ratio = np.array([[-math.log(p)] * PROMPTS + [-math.log(1 - p)] * PROMPTS for p in masses])
    return {
        "log_ratio": ratio[..., None],
        "candidate_weight": np.ones((2 * PROMPTS, 1)),
        "weights": np.repeat([0.9, 0.1], PROMPTS) / PROMPTS,
        "groups": groups,
    }


def test_the_shortcut_is_an_event_where_its_closed_form_says_so() -> None:
    # KL .693, .551, .325; Cov_4 is 0 until 1 - p <= 1/4 and .1 from there on; Cov_16 stays 0.
    found = coverage_events(
        **class_blind([0.5, 0.6, 0.9]), ns=(4, 16), z=3, kl_margin=0.01, coverage_margin=0.02
    )
    np.testing.assert_array_equal(found, [[False, False, True], [False, False, False]])
    # From the majority back to even, coverage gets better and cross-entropy worse.
    back = coverage_events(**class_blind([0.9, 0.5]), ns=(4,), z=3, kl_margin=0.01, coverage_margin=0.02)
    assert not back.any()


@pytest.mark.parametrize(("kl_margin", "coverage_margin"), [(0.37, 0.02), (0.01, 0.11)])
def test_differences_within_a_margin_are_no_event(kl_margin: float, coverage_margin: float) -> None:
    margins = {"kl_margin": kl_margin, "coverage_margin": coverage_margin}
    assert not coverage_events(**class_blind([0.5, 0.9]), ns=(4,), z=3, **margins).any()
    less = {"kl_margin": 0.36, "coverage_margin": 0.09}
    assert coverage_events(**class_blind([0.5, 0.9]), ns=(4,), z=3, **less).any()


def test_candidates_are_summed_with_their_weight() -> None:
    # One prompt's responses (.75, .25) under a model that gives them (.5, .5), then (.9, .1).
    ratio = np.log([0.75, 0.25]) - np.log([[0.3, 0.3], [0.94, 0.06]])
    whole = coverage_events(
        np.tile(ratio[:, None], (1, 8, 1)), np.tile([0.75, 0.25], (8, 1)), np.full(8, 1 / 8),
        np.zeros(8, int), ns=(4,), z=3, kl_margin=0.01, coverage_margin=0.2,
    )  # fmt: skip
    np.testing.assert_array_equal(whole, [[False, True]])


def test_noise_is_no_event() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(1.0, 1.0, 400)
    ratio = base + rng.normal(0, 0.3, (12, 400))
    found = coverage_events(
        ratio[..., None], np.ones((400, 1)), np.full(400, 1 / 400), np.zeros(400, int), (2, 4), 3, 0.0, 0.0
    )
    assert not found.any()


def test_the_bound_against_plain_python() -> None:
    rng = np.random.default_rng(1)
    groups = np.repeat([0, 1, 2], [5, 7, 9])
    weights = np.repeat([0.5, 0.3, 0.2], [5, 7, 9]) / np.repeat([5, 7, 9], [5, 7, 9])
    values = rng.normal(size=21)
    mean = variance = 0.0
    for group, share in enumerate((0.5, 0.3, 0.2)):
        own = [v for v, g in zip(values, groups, strict=True) if g == group]
        middle = sum(own) / len(own)
        mean += share * middle
        variance += share**2 * sum((v - middle) ** 2 for v in own) / (len(own) - 1) / len(own)
    found = paired_lower_bound(values, weights, groups, 2.0)
    assert found == pytest.approx(mean - 2 * math.sqrt(variance))
    with pytest.raises(ValueError, match="groups: class 3 has one prompt"):
        paired_lower_bound(np.zeros(3), np.ones(3), np.array([0, 0, 3]), 2.0)


def test_a_model_without_probability_is_refused() -> None:
    given = class_blind([0.5, 0.9])
    given["log_ratio"][1, 0, 0] = math.inf
    with pytest.raises(ValueError, match="log_ratio: not finite"):
        coverage_events(**given, ns=(4,), z=3, kl_margin=0, coverage_margin=0)
