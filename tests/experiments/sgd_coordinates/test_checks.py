"""Every check of `sgd_coordinates` on measurements made by hand: right, wrong and at its threshold."""

from oracles.sgd_measured import BATCHES, HORIZONS, RIGHT_COORDINATES, WIDTH, at_ends, needing

from covlab.testing.known_checks import Known, known_answers, power
from experiments.sgd_coordinates.checks import checks, notes
from experiments.sgd_coordinates.measure import Measurements, Settings, methods

JUDGED = ("clipped SGD, batch 8", "sign-SGD, batch 8", "Adam, batch 8")
UPDATES = "exponent of H in the updates, mean over iterates"
ENDS = "chosen step sizes at an end of the grid"


def needed(name: str, exponent: float) -> Measurements:
    return needing(name, "mean", power(HORIZONS, exponent, 100), RIGHT_COORDINATES)


def slope(name: str, target: str, wrong: float) -> Known:
    ends = (BATCHES[name] - WIDTH, BATCHES[name] + WIDTH)
    return Known(target, BATCHES[name], ends, lambda value: needed(name, value), wrong)


TABLE = {
    **{f"{name}: {UPDATES}": slope(name, "upper end of the interval <= 0.25", 0.8) for name in JUDGED},
    f"SGD, batch 8, in comparison: {UPDATES}": slope(
        "SGD, batch 8", "lower end of the interval >= 0.75", 0.3
    ),
    ENDS: Known(
        "<= 0",
        0.0,
        None,
        lambda count: at_ends(JUDGED, count, RIGHT_COORDINATES),
        6,
        ((0, True), (1, False)),
    ),
}


TestKnownAnswers = known_answers(checks, RIGHT_COORDINATES, TABLE)


def test_steps_of_other_methods_do_not_count() -> None:
    others = tuple(name for name in BATCHES if name not in JUDGED)
    named = {each.name: each for each in checks(at_ends(others, 14, RIGHT_COORDINATES))}
    assert named[ENDS].measured == 0


def test_smaller_batches_are_measured_and_not_judged() -> None:
    """Sign-SGD on single sequences grows like H here, which the first note says and no check sees."""
    results = needed("sign-SGD, batch 1", 1.0)
    assert checks(results) == checks(RIGHT_COORDINATES)
    assert "sign-SGD 1 [1, 1] (batch 1), 0.3 [0.271, 0.329] (batch 2)" in notes(results)[0]


def test_every_rule_runs_with_every_batch() -> None:
    found = {method.name: method[1:] for method in methods(Settings(smaller_batches=(1, 4), batch=16))}
    assert found == {
        "SGD, batch 16": ("sgd", 16),
        **{f"clipped SGD, batch {batch}": ("clipped", batch) for batch in (1, 4, 16)},
        **{f"sign-SGD, batch {batch}": ("sign", batch) for batch in (1, 4, 16)},
        **{f"Adam, batch {batch}": ("adam", batch) for batch in (1, 4, 16)},
    }
