"""The checks on optimizers, on hand-made measurements: what each reads off them, where its target lies."""

from typing import Any

import numpy as np
from oracles.answers import Case, Known, bound, columns, known_answers, two

from experiments.optimizers_graph.checks import checks
from experiments.optimizers_graph.measure import Compared, Curves, Measurements

RULES = ("sgd", "clipped_sgd", "normalized_sgd", "sign_sgd", "adamw", "muon")
Value = float | tuple[float, float]


def cell(response: int, given: dict[str, Any]) -> Compared:
    """A length at which SGD's Cov_8 lies `gap` above the normalised rules' mean at equal loss, `final` after
    the last step. KL falls from 4 to 2 to 1.6 to 1; rules are compared at 1.8 and 1.3, in the middle of the
    last two intervals."""
    kl = np.broadcast_to(given["kl"], (2, 4))
    gap, final = two(*_pair(given["gap"][response])), two(*_pair(given["final"][response]))
    curves = {}
    for i, rule in enumerate(RULES):
        # The four normalised rules are 0, 1, 2, 3 eighths off their mean, which is 3/16; others are far off.
        off = {0: 0.0, 1: -9.0}.get(i, (i - 2) / 8 - 3 / 16)
        sgd = 0.5 if rule == "sgd" else 0.5 - off - gap
        last = 0.75 if rule == "sgd" else 0.75 - off - final
        # At the levels: (a + b)/2 and (b + c)/2, of mean (a + 2 b + c)/4; the last value is `last`.
        value = columns(0.0, 0.0, 0.0, 0.0)
        value[:, 3] = last
        value[:, 2] = 0.25
        value[:, 1] = 4 * sgd - 2 * 0.25 - last
        start = kl.copy()
        if rule == "sign_sgd":
            # The first seed alone.
            start[0, 0] = given["start"][response]
        nan = np.full((2, 4), np.nan)
        curves[rule] = Curves(np.array([0, 1, 2, 3]), start, {4.0: nan, 8.0: value}, {1: nan})
    return Compared(response, 1.0, curves, np.array(given["levels"][response]))


def _pair(value: Value) -> tuple[float, float]:
    return value if isinstance(value, tuple) else (value, 0.0)


def made(**changes: Any) -> Measurements:
    """Two seeds of one task at H = 4, 8, 32; log2 H is 2, 3, 5, of slope (-4 a - b + 5 c)/14."""
    given: dict[str, Any] = {
        "kl": (4.0, 2.0, 1.6, 1.0),
        "start": {4: 4.0, 8: 3.5, 32: 3.0},
        "levels": {4: (1.3, 1.8), 8: (1.3, 1.8), 32: (1.3, 1.8)},
        "gap": {4: 0.01, 8: 0.03, 32: (0.1, 0.0014)},
        "final": {4: 0.02, 8: 0.04, 32: (0.2, 0.0028)},
        "excess": -0.25,
    }
    assert changes.keys() <= given.keys()
    given |= changes
    cells = tuple(cell(response, given) for response in (4, 8, 32))
    return Measurements(8.0, 1, (1, 2), (), {"graph": cells}, given["excess"])


def at(a: Value, b: Value, c: Value) -> dict[int, Value]:
    return {4: a, 8: b, 32: c}


LEVELS = {4: (1.3, 1.8), 8: (1.3, 1.8)}
# Levels between evaluations that are exact numbers, and so are the gaps there.
EXACT = {"kl": (4.0, 2.0, 1.5, 1.0), "levels": dict.fromkeys((4, 8, 32), (1.25, 1.75))}
NONE = at(0.0, 0.0, 0.0)
OF = "Cov_8 of SGD minus normalised rules'"
CHECKS = {
    f"graph, at equal cross-entropy: {OF}, H = 32": Known(
        "lower end of the interval > 0",
        Case({}, 0.1, 0.0014, True),
        Case({"gap": at(0.0, 0.0, (0.1, 0.01))}, 0.1, 0.01, False),
        Case(EXACT | {"gap": at(0.5, 0.5, 0.0), "final": NONE}, 0.0, 0, False),
    ),
    "graph, at equal cross-entropy: its growth for each doubling of H": Known(
        "lower end of the interval > 0",
        Case({}, 0.43 / 14, 0.0005, True),
        Case({"gap": at(0.1, 0.1, (0.11, 0.0028))}, 0.05 / 14, 0.001, False),
        Case(EXACT | {"gap": NONE, "final": NONE}, 0.0, 0, False),
    ),
    f"graph, after equal steps: {OF}, H = 32": Known(
        "lower end of the interval > 0",
        Case({}, 0.2, 0.0028, True),
        Case({"final": at(0.0, 0.0, (0.1, 0.01))}, 0.1, 0.01, False),
        Case({"final": at(0.5, 0.5, 0.0)}, 0.0, 0, False),
    ),
    "graph, after equal steps: its growth for each doubling of H": Known(
        "lower end of the interval > 0",
        Case({}, 0.88 / 14, 0.001, True),
        Case({"final": at(0.1, 0.1, (0.11, 0.0028))}, 0.05 / 14, 0.001, False),
        Case({"final": NONE}, 0.0, 0, False),
    ),
    "graph: KL over that of the next evaluation, around the levels, largest of all lengths": Known(
        "<= 1.5",
        # Between 1.6 and 1 and between 2 and 1.6: the mean of 1.6 and 1.25.
        Case({}, 1.425, None, True),
        # At H = 8 one level lies between 4 and 2 instead, or for one seed of one rule 3.5 and 2.
        Case({"levels": LEVELS | {8: (1.3, 2.5), 32: (1.3, 1.8)}}, (1.6 + 23.75 / 12) / 2, None, False),
        Case({"kl": (4.0, 2.25, 1.5, 1.0)}, 1.5, None, True),
    ),
    "graph: lowest common KL over that at the start, largest of all lengths": Known(
        "<= 0.5",
        # At H = 32 one seed of one rule begins at 3.
        Case({}, 1.3 / 3, None, True),
        Case({"start": at(4, 2.5, 4)}, 0.52, None, False),
        Case({"levels": LEVELS | {32: (1.5, 1.8)}}, 0.5, None, True),
    ),
    **bound("excess"),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)
