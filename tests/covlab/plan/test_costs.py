"""Cycles and bytes of compiled texts against sums made by hand."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from covlab.plan.costs import Costs, read
from covlab.plan.hlo import HloError, parse

BODY = """
%body (p: (s32[], f32[8], s32[])) -> (s32[], f32[8], s32[]) {
  %p = (s32[], f32[8]{0}, s32[]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8]{0} get-tuple-element(%p), index=1
  %n = s32[] get-tuple-element(%p), index=2
  %step = s32[] constant(STEP)
  %next = s32[] add(%i, %step)
  %y = f32[8]{0} negate(%x), backend_config={"estimated_cycles":"10"}
  ROOT %r = (s32[], f32[8]{0}, s32[]) tuple(%next, %y, %n)
}

%condition (p: (s32[], f32[8], s32[])) -> pred[] {
  %p = (s32[], f32[8]{0}, s32[]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %n = s32[] get-tuple-element(%p), index=2
  ROOT %c = pred[] compare(SIDES), direction=DIRECTION
}
"""

ENTRY = """
ENTRY %main (x: f32[8], n: s32[]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %n = s32[] parameter(1)
  %first = s32[] constant(FIRST)
  %last = s32[] constant(LAST)
  %start = (s32[], f32[8]{0}, s32[]) tuple(%first, %x, BOUND)
  %loop = (s32[], f32[8]{0}, s32[]) while(%start), condition=%condition, body=%body
  ROOT %y = f32[8]{0} get-tuple-element(%loop), index=1
}
"""


def loop(
    first: int, last: int, step: int, direction: str, sides: str = "%i, %n", bound: str = "%last"
) -> str:
    text = "HloModule m, is_scheduled=true\n" + BODY + ENTRY
    for word, value in {
        "STEP": step, "SIDES": sides, "DIRECTION": direction, "FIRST": first, "LAST": last, "BOUND": bound,
    }.items():  # fmt: skip
        text = text.replace(word, str(value))
    return text


@pytest.mark.parametrize(
    ("first", "last", "step", "direction"),
    [
        (0, 5, 1, "LT"),
        (2, 11, 3, "LT"),
        (2, 12, 3, "LT"),
        (0, 6, 2, "LE"),
        (9, 0, -2, "GT"),
        (8, 0, -2, "GE"),
        (0, 12, 4, "NE"),
        (3, 3, 1, "LT"),
    ],
)
def test_trip_counts_are_those_of_the_loop_in_python(
    first: int, last: int, step: int, direction: str
) -> None:
    goes_on = {
        "LT": lambda i: i < last,
        "LE": lambda i: i <= last,
        "GT": lambda i: i > last,
        "GE": lambda i: i >= last,
        "NE": lambda i: i != last,
    }[direction]
    runs, i = 0, first
    while goes_on(i):
        runs, i = runs + 1, i + step
    found = read(loop(first, last, step, direction))
    assert (found.cycles, found.unknown) == (10 * runs, ())


def test_a_condition_may_have_the_constant_on_the_left() -> None:
    assert read(loop(0, 5, 1, "GT", sides="%n, %i")).cycles == 50


@pytest.mark.parametrize(
    "text",
    [
        loop(0, 5, 1, "LT", bound="%n"),
        loop(0, 5, 1, "GT", sides="%i, %i"),
        loop(0, 7, 2, "NE"),
        loop(0, 5, 0, "LT"),
        loop(0, 5, 1, "LT").replace("%first, %x", "%n, %x"),
        loop(0, 5, 1, "LT").replace("add(%i, %step)", "multiply(%i, %step)"),
        loop(0, 5, 1, "LT").replace("tuple(%next, %y, %n)", "tuple(%next, %y, %next)"),
    ],
    ids=["bound", "itself", "passes", "still", "start", "not a step", "bound moves"],
)
def test_a_loop_of_unknown_length_counts_once_and_is_named(text: str) -> None:
    found = read(text)
    assert (found.cycles, found.unknown) == (10, ("loop",))


def test_a_stated_number_of_iterations_is_taken() -> None:
    text = loop(0, 5, 1, "LT", bound="%n").replace(
        "body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"4"}}'
    )
    assert (read(text).cycles, read(text).unknown) == (40, ())


NESTED = (
    "HloModule m\n"
    + BODY.replace("STEP", "1").replace("SIDES", "%i, %n").replace("DIRECTION", "LT")
    + """
%fused_step (a: s32[], b: s32[]) -> s32[] {
  %a = s32[] parameter(0)
  %b = s32[] parameter(1)
  ROOT %sum = s32[] add(%a, %b)
}

%fused_compare (a: s32[]) -> pred[] {
  %a = s32[] parameter(0)
  %three = s32[] constant(3)
  ROOT %less = pred[] compare(%a, %three), direction=LT
}

%outer (p: (s32[], f32[8], s32[], s32[])) -> (s32[], f32[8], s32[], s32[]) {
  %p = (s32[], f32[8]{0}, s32[], /*index=3*/s32[]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8]{0} get-tuple-element(%p), index=1
  %one = s32[] get-tuple-element(%p), index=2
  %bound = s32[] get-tuple-element(%p), index=3
  %next = s32[] fusion(%i, %one), kind=kLoop, calls=%fused_step
  %zero = s32[] constant(0)
  %kept = s32[] copy(%zero)
  %start = (s32[], f32[8]{0}, s32[]) tuple(%kept, %x, %bound)
  %inner = (s32[], f32[8]{0}, s32[]) while(%start), condition=%condition, body=%body
  %y = f32[8]{0} get-tuple-element(%inner), index=1
  %z = f32[8]{0} negate(%y), backend_config={"window_config":{"estimated_cycles":"100"}}
  ROOT %r = (s32[], f32[8]{0}, s32[], s32[]) tuple(%next, %z, %one, %bound)
}

%goes_on (p: (s32[], f32[8], s32[], s32[])) -> pred[] {
  %p = (s32[], f32[8]{0}, s32[], s32[]) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %c = pred[] fusion(%i), kind=kLoop, calls=%fused_compare
}

ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %zero = s32[] constant(0)
  %one = s32[] constant(1)
  %seven = s32[] constant(7)
  %begin = (s32[], f32[8]{0}, s32[], s32[]) tuple(%zero, %x, %one, %seven)
  %while.1 = (s32[], f32[8]{0}, s32[], s32[]) while(%begin), condition=%goes_on, body=%outer
  ROOT %y = f32[8]{0} get-tuple-element(%while.1), index=1
}
"""
)


def test_nested_loops_multiply_through_fusions_copies_and_what_the_outer_one_carries() -> None:
    found = read(NESTED)
    assert found.unknown == ()
    assert found.cycles == 3 * (7 * 10 + 100)
    assert {each.name: each.runs for each in found.instructions if each.cycles} == {"y": 21, "z": 3}


KINDS = """HloModule m

%product (a: f32[4,8], b: f32[8,2]) -> f32[4,2] {
  %a = f32[4,8]{1,0} parameter(0)
  %b = f32[8,2]{1,0} parameter(1)
  ROOT %dot = f32[4,2]{1,0} dot(%a, %b), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%row (t: f32[100,8], i: s32[]) -> f32[1,8] {
  %t = f32[100,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %slice = f32[1,8]{1,0} dynamic-slice(%t, %i, %zero), dynamic_slice_sizes={1,8}
}

%written (t: f32[100,8], r: f32[1,8], i: s32[]) -> f32[100,8] {
  %t = f32[100,8]{1,0} parameter(0)
  %r = f32[1,8]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %update = f32[100,8]{1,0} dynamic-update-slice(%t, %r, %i, %zero)
}

ENTRY %main (a: f32[4,8], b: f32[8,2], t: f32[100,8], i: s32[]) -> f32[100,8] {
  %a = f32[4,8]{1,0} parameter(0)
  %b = f32[8,2]{1,0} parameter(1)
  %t = f32[100,8]{1,0} parameter(2)
  %i = s32[] parameter(3)
  %zero = f32[] constant(0)
  %f = f32[4,2]{1,0} fusion(%a, %b), kind=kOutput, calls=%product, backend_config={"estimated_cycles":"60"}
  %s = f32[2]{0} reduce(%f, %zero), dimensions={0}, to_apply=%add, backend_config={"estimated_cycles":"20"}
  %k = f32[4,2]{0,1} copy(%f), backend_config={"estimated_cycles":"12"}
  %q = bf16[4,2]{0,1:S(1)} negate(%k), backend_config={"estimated_cycles":"8"}
  %r = f32[1,8]{1,0} fusion(%t, %i), kind=kLoop, calls=%row
  ROOT %w = f32[100,8]{1,0} fusion(%t, %r, %i), kind=kLoop, calls=%written
}
"""


def test_shares_and_bytes_by_hand() -> None:
    found = read(KINDS)
    assert found.shares() == {
        "products": 0.6, "reductions": 0.2, "copies": 0.12, "collectives": 0.0, "others": 0.08,
    }  # fmt: skip
    sizes = {each.name: each.bytes for each in found.instructions}
    assert sizes == {
        "f": 4 * (32 + 16 + 8),
        "s": 4 * (8 + 1 + 2),
        "k": 4 * (8 + 8),
        # The result stays on the chip.
        "q": 4 * 8,
        # One row of the table is read, and one written in place.
        "r": 4 * (8 + 8 + 1),
        "w": 4 * (8 + 8 + 8 + 1),
    }


def test_the_work_space_of_a_librarys_product_is_no_traffic() -> None:
    text = """HloModule m

ENTRY %main (a: f32[4,8], b: f32[8,2]) -> f32[4,2] {
  %a = f32[4,8]{1,0} parameter(0)
  %b = f32[8,2]{1,0} parameter(1)
  %g = (f32[4,2]{1,0}, s8[33554432]{0}) custom-call(%a, %b), custom_call_target="__cublas$lt$matmul"
  ROOT %r = f32[4,2]{1,0} get-tuple-element(%g), index=0
}
"""
    found = read(text)
    assert (found.bytes, found.shares()["products"]) == (4 * (32 + 16 + 8), 1.0)


def test_of_a_conditional_the_most_expensive_branch_counts() -> None:
    text = """HloModule m

%cheap (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  ROOT %n = f32[8]{0} negate(%a), backend_config={"estimated_cycles":"5"}
}

%dear (a: f32[8]) -> f32[8] {
  %a = f32[8]{0} parameter(0)
  ROOT %e = f32[8]{0} exponential(%a), backend_config={"estimated_cycles":"50"}
}

ENTRY %main (p: pred[], a: f32[8]) -> f32[8] {
  %p = pred[] parameter(0)
  %a = f32[8]{0} parameter(1)
  ROOT %c = f32[8]{0} conditional(%p, %a, %a), true_computation=%cheap, false_computation=%dear
}
"""
    assert read(text).cycles == 50
    branches = "branch_computations={%dear, %cheap}"
    assert read(text.replace("true_computation=%cheap, false_computation=%dear", branches)).cycles == 50


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no ENTRY computation"),
        ("HloModule m\n", "no ENTRY computation"),
        ("ENTRY %main () -> f32[] {\n  nothing here\n}\n", "'nothing here' is not an instruction"),
        ("ENTRY %main () -> f32[] {\n  %x = f32[] add(%a\n}\n", "has no closing bracket"),
    ],
)
def test_another_text_is_refused_in_one_line(text: str, problem: str) -> None:
    with pytest.raises(HloError, match=problem) as error:
        read(text)
    assert "\n" not in str(error.value)


def nested(x: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    """tanh(x x) + 1, fifteen times in two loops and then n times, and the sums of the columns."""

    def body(_, x):
        return jnp.tanh(x @ x) + 1

    x = jax.lax.fori_loop(0, 3, lambda _, x: jax.lax.fori_loop(0, 5, body, x) * 2, x)
    return jax.lax.fori_loop(0, n, body, x), jnp.sum(x, axis=0)


def runs_of_products(found: Costs) -> list[int]:
    return sorted(each.runs for each in found.instructions if each.kind == "products")


def test_the_text_of_a_real_compiler_for_v5e() -> None:
    """`nested`, compiled by libtpu 0.0.42.1 for a v5e; of the compiler's configuration the estimates stay."""
    found = read(Path(__file__).with_name("nested_v5e.hlo").read_text(encoding="utf-8"))
    assert found.unknown == ("while.11",)
    assert runs_of_products(found) == [1, 15]
    estimates = {"fusion.17": 15 * 512, "copy.5": 15 * 32, "broadcast_multiply_fusion.2": 3 * 2397}
    estimates |= {"copy.25": 32, "fusion.14": 512, "reduce_sum.7": 2898}
    assert {each.name: each.cycles for each in found.instructions if each.cycles} == estimates
    assert found.estimated
    assert found.cycles == sum(estimates.values())


def test_the_text_of_this_machines_compiler() -> None:
    shapes = jax.ShapeDtypeStruct((64, 64), jnp.float32), jax.ShapeDtypeStruct((), jnp.int32)
    text = jax.jit(nested).lower(*shapes).compile().as_text()
    assert text is not None
    found = read(text)
    assert len(found.unknown) == 1
    assert not found.estimated
    assert runs_of_products(found) == [1, 15]
    # Two operands, which are one array, and the result of each of the sixteen products, at least.
    assert found.bytes >= 16 * 2 * 4 * 64 * 64
    assert sum(found.shares().values()) == pytest.approx(1)
    assert parse(text).entry.startswith("main")
