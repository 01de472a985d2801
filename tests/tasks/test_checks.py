"""Checks of settings: valid values are returned, others raise one line with field, value and range."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from tasks.checks import distribution, flag, probabilities, real, reals, whole, wholes

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: whole("x", 0, 1), "x: 0 is not an integer >= 1"),
        (lambda: whole("x", 2.0, 1), "x: 2.0 is not an integer >= 1"),
        (lambda: whole("x", True, 1), "x: True is not an integer >= 1"),
        (lambda: whole("x", np.bool_(True), 0), f"x: {np.bool_(True)!r} is not an integer >= 0"),
        (lambda: whole("x", "3", 1), "x: '3' is not an integer >= 1"),
        (lambda: whole("x", NAN, 1), "x: nan is not an integer >= 1"),
        (lambda: whole("x", None, 1), "x: None is not an integer >= 1"),
        (lambda: whole("x", -1), "x: -1 is not an integer >= 0"),
        (lambda: whole("x", 5, 1, 4), "x: 5 is not an integer from 1 to 4"),
        (lambda: whole("x", 0, 1, other="auto"), "x: 0 is neither auto nor an integer >= 1"),
        (lambda: real("x", "1"), "x: '1' is not a number"),
        (lambda: real("x", True, least=0), "x: True is not a number >= 0"),
        (lambda: real("x", NAN), "x: nan is not a number"),
        (lambda: real("x", INF, above=0), "x: inf is not a finite positive number"),
        (lambda: real("x", -INF), "x: -inf is not a finite number"),
        (lambda: real("x", 10**400, least=1), f"x: {10**400} is not a finite number >= 1"),
        (lambda: real("x", 0, above=0), "x: 0 is not a positive number"),
        (lambda: real("x", -1, least=0), "x: -1 is not a number >= 0"),
        (lambda: real("x", 1, above=1), "x: 1 is not a number > 1"),
        (lambda: real("x", 3, most=2), "x: 3 is not a number <= 2"),
        (lambda: real("x", 3, below=3), "x: 3 is not a number < 3"),
        (lambda: real("x", 1.0, least=0, below=1), "x: 1.0 is not a number in [0, 1)"),
        (lambda: real("x", 0.0, above=0, most=1), "x: 0.0 is not a number in (0, 1]"),
        (lambda: real("x", -0.1, least=0, most=1), "x: -0.1 is not a number in [0, 1]"),
        (lambda: real("x", 0, above=0, below=2), "x: 0 is not a number strictly between 0 and 2"),
        (lambda: real("x", 0, above=0, other="null"), "x: 0 is neither null nor a positive number"),
        (lambda: flag("x", 1), "x: 1 is not true or false"),
        (lambda: flag("x", "yes"), "x: 'yes' is not true or false"),
        (lambda: flag("x", None), "x: None is not true or false"),
        (lambda: wholes("xs", [4, 4], 1), "xs: [4, 4]; valid: at least 1 different integers >= 1"),
        (lambda: wholes("xs", [0, 4], 1), "xs: [0, 4]; valid: at least 1 different integers >= 1"),
        (lambda: wholes("xs", 4, 1), "xs: 4; valid: at least 1 different integers >= 1"),
        (lambda: wholes("xs", "48", 1), "xs: 48; valid: at least 1 different integers >= 1"),
        (lambda: wholes("xs", [4, True], 1), "xs: [4, True]; valid: at least 1 different integers >= 1"),
        (lambda: wholes("xs", []), "xs: []; valid: at least 1 different integers >= 0"),
        (lambda: wholes("xs", [4], 1, 2), "xs: [4]; valid: at least 2 different integers >= 1"),
        (lambda: reals("xs", [1, 3], 0, 2), "xs: 3 is not a number strictly between 0 and 2"),
        (lambda: reals("xs", [[1]], 0, 2), "xs: [1] is not a number strictly between 0 and 2"),
        (
            lambda: reals("xs", [1, 1.0], 0, 2),
            "xs: [1, 1.0]; valid: at least 1 different numbers strictly between 0 and 2",
        ),
        (
            lambda: reals("xs", [], 0, 2),
            "xs: []; valid: at least 1 different numbers strictly between 0 and 2",
        ),
        (lambda: reals("xs", 1, 0, 2), "xs: 1; valid: at least 1 different numbers strictly between 0 and 2"),
        (lambda: distribution("m", 3, ("a", "b")), "m: 3 is not a mapping from classes to probabilities"),
        (
            lambda: distribution("m", "ab", ("a", "b")),
            "m: 'ab' is not a mapping from classes to probabilities",
        ),
        (lambda: distribution("m", {"c": 1.0}, ("a", "b")), "m: no class 'c'; valid are a, b"),
        (lambda: distribution("m", {"a": True}, ("a", "b")), "m.a: True is not a number in [0, 1]"),
        (lambda: distribution("m", {"a": "1"}, ("a", "b")), "m.a: '1' is not a number in [0, 1]"),
        (lambda: distribution("m", {"a": NAN}, ("a", "b")), "m.a: nan is not a number in [0, 1]"),
        (lambda: distribution("m", {"a": 0.0}, ("a",), positive=True), "m.a: 0.0 is not a number in (0, 1]"),
        (
            lambda: distribution("m", {"a": 0.5, "b": 0.25}, ("a", "b")),
            "m: probabilities {'a': 0.5, 'b': 0.25} sum to 0.75, not to 1",
        ),
        (lambda: probabilities("p", 1.0), "p: 1.0 is not a list of probabilities"),
        (lambda: probabilities("p", [0.5, "a"]), "p: 'a' is not a number in [0, 1]"),
        (lambda: probabilities("p", [0.5, 0.25]), "p: [0.5, 0.25] sum to 0.75, not to 1"),
    ],
)
def test_bad_values_are_one_line(check: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^\w") as refused:
        check()
    assert str(refused.value) == message


def test_good_values_come_back() -> None:
    assert whole("x", 3, 1) == 3
    assert whole("x", 0) == 0
    assert type(whole("x", np.int64(3), 3, 3)) is int
    assert real("x", 1, above=0, below=2) == 1.0
    assert type(real("x", np.float32(0.5), least=0.5, most=0.5)) is float
    assert real("x", Fraction(1, 4)) == 0.25
    assert real("x", -2.5) == -2.5
    assert flag("x", False) is False


def test_lists_come_back_in_order() -> None:
    assert wholes("xs", [8, 4], 1) == (4, 8)
    assert wholes("xs", OmegaConf.create([3]), 3) == (3,)
    assert wholes("xs", [1, 0]) == (0, 1)
    assert wholes("xs", [], 1, 0) == ()
    assert reals("xs", (1, 0.5), 0, 2) == (0.5, 1.0)


def test_distributions_keep_their_order() -> None:
    assert distribution("m", {"b": 0.5, "a": 0.5}, ("a", "b")) == (("b", 0.5), ("a", 0.5))
    assert distribution("m", (("a", 1),), ("a", "b")) == (("a", 1.0),)
    assert probabilities("p", [0, 1]) == (0.0, 1.0)
