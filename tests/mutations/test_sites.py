"""The mutants of a small file, one by one."""

from __future__ import annotations

import ast

from tests.mutations.campaign import ROOT, without_line
from tests.mutations.equivalent import EQUIVALENT
from tests.mutations.sites import mutants, statement_lines

SOURCE = b'''"""A module: 1 + 1."""

from x import y

LIMIT = 3


def gap(a: float, b: float = 2.0) -> float:
    """The gap: a - b."""
    if a < b and LIMIT:
        raise ValueError(f"a: {a + 1} is < b")
    total = max(a, b) - clip(a, b, 1)
    total += 1
    return total if a else -b
'''


def changed() -> list[str]:
    return [f"{mutant.before} -> {mutant.text}" for mutant in mutants("x.py", SOURCE)]


def test_every_place_that_computes_is_changed_once_for_each_kind() -> None:
    assert sorted(changed()) == sorted(
        [
            "2.0 -> 3.0",
            "a < b and LIMIT -> (a < b or LIMIT)",
            "a < b -> (a <= b)",
            "max(a, b) - clip(a, b, 1) -> (max(a, b) + clip(a, b, 1))",
            "max(a, b) -> (min(a, b))",
            "1 -> 2",
            "total += 1 -> pass",
            "1 -> 2",
            "total if a else -b -> (-b)",
            "-b -> (b)",
        ]
    )


def test_only_arguments_that_matter_in_their_order_change_places() -> None:
    calls = "max(a, b)", "np.clip(0, a, b)", "jnp.add(a, b)", "a.clip(b, c)", "np.dot(a, b)"
    swapped = [
        call
        for call in calls
        for mutant in mutants("x.py", f"def f():\n    return {call}\n".encode())
        if mutant.kind == "arguments"
    ]
    assert swapped == ["a.clip(b, c)", "np.dot(a, b)"]


def test_the_strictness_of_a_zip_is_left_alone() -> None:
    source = b"def f(a):\n    return zip(a, a[1:], strict=True), sorted(a, reverse=True)\n"
    assert [f"{m.before} -> {m.text}" for m in mutants("x.py", source)] == [
        "zip(a, a[1:], strict=True) -> (zip(a[1:], a, strict=True))",
        "1 -> 2",
        "True -> False",
    ]


def test_every_mutant_is_python_and_differs() -> None:
    for mutant in mutants("x.py", SOURCE):
        source = mutant.applied(SOURCE)
        assert ast.dump(ast.parse(source)) != ast.dump(ast.parse(SOURCE)), mutant.name


def test_a_name_says_place_function_and_change() -> None:
    (mutant,) = (m for m in mutants("x.py", SOURCE) if m.before == "a < b")
    assert mutant.name == "x.py:10 gap: a < b -> (a <= b)"


def test_only_wanted_functions_are_changed() -> None:
    assert not mutants("x.py", SOURCE, inside=lambda function: False)
    assert len(mutants("x.py", SOURCE, inside=lambda function: True)) == len(changed())


def test_a_constant_on_a_line_of_its_own_is_reached_with_its_statement() -> None:
    source = b"""def f(x):
    for name, at in (
        ("a", 1),
        ("b", 2),
    ):
        if at > 3: x += 4
    return x
"""
    lines = {m.before: [*statement_lines(source, m)] for m in mutants("x.py", source) if m.kind == "constant"}
    assert lines == {"1": [2, 3, 4, 5], "2": [2, 3, 4, 5], "3": [6], "4": [6]}


def test_equivalent_mutants_are_mutants() -> None:
    """A key of code that has changed since would excuse nothing, or something else."""
    files = {name.split()[0] for name in EQUIVALENT}
    names = {without_line(m.name) for file in files for m in mutants(file, (ROOT / file).read_bytes())}
    assert set(EQUIVALENT) <= names
