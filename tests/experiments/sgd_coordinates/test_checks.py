"""Every check of `sgd_coordinates` on measurements made by hand: right, wrong and at its threshold."""

from oracles.sgd_measured import HORIZONS, MEAN, RIGHT, WIDTH, at_ends, needing

from covlab.testing.known_checks import Known, known_answers, power
from experiments.sgd_coordinates.checks import checks

METHODS = ("clipped SGD", "sign-SGD", "Adam")
UPDATES = "exponent of H in the updates, mean over iterates"


def slope(name: str, target: str, wrong: float) -> Known:
    ends = (MEAN[name] - WIDTH, MEAN[name] + WIDTH)
    return Known(
        target, MEAN[name], ends, lambda value: needing(name, "mean", power(HORIZONS, value, 100)), wrong
    )


TABLE = {
    **{f"{name}: {UPDATES}": slope(name, "upper end of the interval <= 0.25", 0.8) for name in METHODS},
    f"SGD, in comparison: {UPDATES}": slope("SGD", "lower end of the interval >= 0.75", 0.3),
    "chosen step sizes at an end of the grid": Known(
        "<= 0", 0.0, None, lambda count: at_ends(METHODS, count), 6, ((0, True), (1, False))
    ),
}


TestKnownAnswers = known_answers(checks, RIGHT, TABLE)


def test_steps_of_other_methods_do_not_count() -> None:
    named = {each.name: each for each in checks(at_ends(("SGD", "normalised SGD"), 4))}
    assert named["chosen step sizes at an end of the grid"].measured == 0
