"""The checks on late values, on hand-made measurements: what each reads off them, and where a target lies."""

import math
from typing import Any, cast

import numpy as np
from oracles.answers import Case, Known, columns, known_answers

from decoding import Decoded
from experiments.vgb_delay.checks import checks
from experiments.vgb_delay.measure import Measurements, ParityCost, Settings
from metrics import Interval
from theory.vgb.laws import Goodness, Laws, Sampled

HORIZONS = (4, 8, 32)
PER_LN = 14 * math.log(2)
"""The least-squares slope in ln H at these horizons is (-4 a - b + 5 c)/PER_LN."""
OVER = 1 + 1e-9
SETTINGS = Settings(
    steps=8, longest=12, delta=math.exp(-2), seed=1, seeds=2, leaves=16,
    horizons=HORIZONS, tilt=2.0, block=2, sampled_horizon=3, chains=16, parity_chains=16,
)  # fmt: skip
NAMES = ("action level", "first leaf", "fixed steps")
EIGHT = 2.3646242515928 / math.sqrt(7)
"""Half-width over d of Student's interval over eight values, four at m - d and four at m + d."""
GROUPS = np.repeat([-1, 1], 4)


def made(**changes: Any) -> Measurements:
    """Two seeds at three horizons. With 1 + eps = 2, ln(1/delta) = 2 and lambda = 2: the guarantees are 512,
    2048 and 32768 steps and leaf masses of 1/64, 1/128 and 1/512; beta is 1/8, 1/16 and 1/64."""
    given: dict[str, Any] = {
        "action": (0.7, 0.85, 0.95),
        "first": (0.2, 0.25, 0.26),
        "chain": (0.004, (0.005, 1e-4), 0.004),
        "divergence": ((0.004, 8e-5), 0.0064, 0.0128),
        "mixing": (32, 64, 1024),
        "leaf_mass": (0.1, 0.05, 0.02),
        "leaf_probability": (0.09, 0.06, 0.03),
        "blind": (1e-13, 5e-13, 2e-13),
        "action_divergence": (0.8, 1.52, 7.0),
        "mean": (0.6, 0.65, 0.7),
        "target_mean": (0.599, 0.652, 0.7),
        # Of parity: ln of the action level's queries over ln 2, VGB's steps, ln of its queries, rewards.
        "parity": (2.0, 4.0, 16.0),
        "steps": (32, 64, 1024),
        "queries": (math.log(16), math.log(64), math.log(1024) + 0.01 * GROUPS),
        "rewards": (16, 16, 16),
        "last": Interval(1000.0, 900.0, 1100.0),
        "goodness": (Goodness(0.5, 1e-9), Goodness(0.25, 0.5), Goodness(0.125, 0.75)),
    }
    assert changes.keys() <= given.keys()
    given |= changes
    chain, divergence, mixing = (columns(*given[name]) for name in ("chain", "divergence", "mixing"))
    laws = tuple(
        Laws(
            depth=depth,
            error=2.0,
            action_level=given["action"][i],
            first_leaf=given["first"][i],
            first_leaf_steps=math.nan,
            steps=-1,
            chain=chain[:, i],
            divergence=divergence[:, i],
            mixing_steps=mixing[:, i],
            leaf_probability=given["leaf_probability"][i],
            leaf_mass=given["leaf_mass"][i],
            times=np.zeros(1),
            curve=np.zeros(1),
        )
        for i, depth in enumerate(HORIZONS)
    )
    parity = tuple(
        ParityCost(
            depth,
            math.nan,
            2 ** given["parity"][i],
            given["steps"][i],
            walks(given["queries"][i], given["rewards"][i], given["last"] if i == 2 else Interval(9, 9, 9)),
        )
        for i, depth in enumerate(HORIZONS)
    )
    return Measurements(
        settings=SETTINGS,
        laws=laws,
        mean={name: np.array(given[key]) for name, key in (("VGB", "mean"), ("pi*", "target_mean"))},
        blind=np.array(given["blind"]),
        counts={},
        divergence=np.array(given["action_divergence"]),
        linear=np.zeros(3),
        parity=parity,
        goodness=dict(zip(NAMES, given["goodness"], strict=True)),
        sampled={},
    )


def walks(log_queries: Any, rewarded: int, queries: Interval) -> Sampled:
    """Sixteen chains in eight groups; a group's two chains need 15 queries less and more than its mean."""
    unused = cast(Any, None)
    mean = np.exp(np.broadcast_to(np.asarray(log_queries, float), (8,)))
    each = np.stack([mean - 15, mean + 15], axis=1).reshape(1, 16)
    reward = (np.arange(16) < rewarded).astype(float)[None]
    return Sampled(Decoded(unused, unused, reward, each, unused), queries)


def around(middle: float, half: float) -> tuple[float, float]:
    return middle - half, middle + half


def fit(law: tuple[float, float, float] = (0.5, 0.25, 0.125), target: float = 1e-9) -> dict[str, Any]:
    first, second, third = law
    return {"goodness": (Goodness(first, target), Goodness(second, 0.5), Goodness(third, 0.75))}


def decoder(place: int, right: float) -> Known:
    law = [0.5, 0.25, 0.125]
    wrong, edge = ([*law[:place], p, *law[place + 1 :]] for p in (5e-4, 1e-3))
    return Known(
        ">= 0.001",
        Case({}, right, None, True),
        Case(fit(tuple(wrong)), 5e-4, None, False),  # type: ignore[arg-type]
        Case(fit(tuple(edge)), 1e-3, None, True),  # type: ignore[arg-type]
    )


VGB = "delay, VGB"
CHECKS = {
    "delay, action level: largest |P(bit = 1) - 1/2| before the last bit": Known(
        "<= 1e-12",
        Case({}, 5e-13, None, True),
        Case({"blind": (0.0, 0.0, 2e-12)}, 2e-12, None, False),
        Case({"blind": (0.0, 1e-12, 0.0)}, 1e-12, None, True),
    ),
    "delay, action level: loss of regularised reward, least over H": Known(
        ">= 0.08",
        Case({}, 0.095, None, True),
        Case({"action_divergence": (8.0, 16.0, 4.48)}, 0.07, None, False),
        Case({"action_divergence": (0.64, 8.0, 8.0)}, 0.08, None, True),
    ),
    "delay, action level: TV at the longest H": Known(
        ">= 0.9",
        Case({}, 0.95, None, True),
        Case({"action": (0.95, 0.95, 0.875)}, 0.875, None, False),
        Case({"action": (0.1, 0.2, 0.9)}, 0.9, None, True),
    ),
    "delay, action level: slope of TV in ln H": Known(
        "> 0.05",
        Case({}, 1.1 / PER_LN, None, True),
        Case({"action": (0.9, 0.9, 0.95)}, 0.25 / PER_LN, None, False),
        Case({"action": (0.0, 0.0, 0.01 * PER_LN / OVER)}, 0.05 / OVER, None, False),
    ),
    f"{VGB}: slope of TV in ln H": Known(
        "upper end of the interval < 0.005",
        Case({}, -0.001 / PER_LN, 1e-4 / PER_LN, True),
        Case({"chain": (0.001, 0.001, (0.005, 5e-4))}, 0.02 / PER_LN, 0.0025 / PER_LN, False),
        Case({"chain": (0.0, 0.0, 0.001 * PER_LN * OVER)}, 0.005 * OVER, 0, False),
    ),
    f"{VGB}: largest TV over H": Known(
        "upper end of the interval <= 0.01",
        Case({}, 0.005, 1e-4, True),
        Case({"chain": (0.009, (0.008, 0.001), 0.001)}, 0.008, 0.001, False),
        Case({"chain": (0.01, 0.0, 0.0)}, 0.01, 0, True),
    ),
    f"{VGB}: loss of regularised reward, largest over H": Known(
        "upper end of the interval <= 0.001",
        Case({}, 0.0005, 1e-5, True),
        Case({"divergence": (0.0, 0.0, (0.0512, 0.0064))}, 0.0008, 0.0001, False),
        Case({"divergence": (0.008, 0.0, 0.0)}, 0.001, 0, True),
    ),
    f"{VGB}: largest |E mean(y) - that of pi*| over H": Known(
        "<= 0.005",
        Case({}, 0.002, None, True),
        Case({"mean": (0.6, 0.66, 0.7)}, 0.008, None, False),
        Case({"mean": (0.0, 0.0, 0.005), "target_mean": (0.0, 0.0, 0.0)}, 0.005, None, True),
    ),
    f"{VGB}, first leaf: TV at the longest H over TV at a quarter of it": Known(
        "<= 1.1",
        Case({}, 1.04, None, True),
        Case({"first": (0.9, 0.2, 0.3)}, 1.5, None, False),
        Case({"first": (0.2, 0.5, 0.55)}, 1.1, None, True),
    ),
    f"{VGB}: exponent of H in the steps to mix": Known(
        "upper end of the interval <= 2.2",
        # log2 of the steps is 5, 6 and 10.
        Case({}, 24 / 14, 0, True),
        Case({"mixing": (16, 64, 1024 * np.exp([-0.1, 0.1]))}, 2.0, 0.5 / PER_LN, False),
        Case({"mixing": (1, 2**2.2, 2 ** (2.2 * 3) / OVER)}, 2.2, 0, True),
    ),
    f"{VGB}: steps to mix / H^2 (1 + eps)^4 ln(1/delta), largest": Known(
        "upper end of the interval <= 1",
        Case({}, 0.0625, 0, True),
        Case({"mixing": (1, (1843.2, 20.48), 1024)}, 0.9, 0.01, False),
        Case({"mixing": (1, 2, 32768 / OVER)}, 1 / OVER, 0, True),
    ),
    f"{VGB}: leaf mass * 8 (1 + eps) H, least": Known(
        ">= 1",
        Case({}, 5.76, None, True),
        # The stationary mass is the smaller one.
        Case({"leaf_mass": (0.1, 0.005, 0.02)}, 0.64, None, False),
        Case({"leaf_probability": (0.1, 0.1, 1 / 512)}, 1.0, None, True),
    ),
    "parity, action level: slope of ln queries until reward 1 in H, over (ln 2)/block": Known(
        ">= 0.8",
        Case({}, 1.0, None, True),
        Case({"parity": (1, 2, 8)}, 0.5, None, False),
        Case({"parity": tuple(h * 0.8 / 2 * OVER for h in HORIZONS)}, 0.8 * OVER, None, True),
    ),
    "parity, VGB: exponent of H in the steps until reward 1": Known(
        "<= 2.5",
        Case({}, 24 / 14, None, True),
        Case({"steps": tuple(h**3 for h in HORIZONS)}, 3.0, None, False),
        Case({"steps": tuple(h ** (2.5 / OVER) for h in HORIZONS)}, 2.5 / OVER, None, True),
    ),
    "parity, VGB: exponent of H in the queries until reward 1": Known(
        "upper end of the interval <= 2.5",
        Case({}, 2.0, around(2.0, EIGHT * 0.05 / PER_LN), True),
        Case(
            {"queries": (math.log(16), math.log(64), math.log(1024) + 2 * GROUPS)},
            2.0,
            around(2.0, EIGHT * 10 / PER_LN),
            False,
        ),
        Case({"queries": tuple(math.log(h) * 2.5 / OVER for h in HORIZONS)}, 2.5 / OVER, 0, True),
    ),
    "parity, VGB: share of responses with reward 1, least": Known(
        ">= 1",
        Case({}, 1.0, None, True),
        Case({"rewards": (16, 15, 16)}, 0.9375, None, False),
        Case({"rewards": (16, 16, 16)}, 1.0, None, True),
    ),
    "parity: queries of VGB (upper end) over the action level's, longest H": Known(
        "<= 0.1",
        Case({}, 1100 / 65536, None, True),
        Case({"last": Interval(6000.0, 5000.0, 7864.32)}, 0.12, None, False),
        Case({"last": Interval(1.0, 0.5, 0.1), "parity": (2.0, 4.0, 0.0)}, 0.1, None, True),
    ),
    "decoder, action level: p-value against its exact law": decoder(0, 0.5),
    "decoder, first leaf: p-value against its exact law": decoder(1, 0.25),
    "decoder, fixed steps: p-value against its exact law": decoder(2, 0.125),
    "decoder, action level: p-value against pi* (the test's power)": Known(
        "<= 1e-06",
        Case({}, 1e-9, None, True),
        Case(fit(target=1e-5), 1e-5, None, False),
        Case(fit(target=1e-6), 1e-6, None, True),
    ),
}


TestKnownAnswers = known_answers(checks, made, CHECKS)


def test_a_chain_that_has_not_mixed_passes_no_check_on_its_steps() -> None:
    found = checks(made(mixing=(32, 64, np.array([1024, np.nan]))))
    assert [check.name for check in found if not check.passed] == [
        f"{VGB}: exponent of H in the steps to mix",
        f"{VGB}: steps to mix / H^2 (1 + eps)^4 ln(1/delta), largest",
    ]
