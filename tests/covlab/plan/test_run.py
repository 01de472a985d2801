"""Sums of a plan by hand: times, memory, seeds that fit, and the page."""

from __future__ import annotations

import dataclasses

import pytest

from covlab.plan.costs import Costs, Kind, Where
from covlab.plan.page import page
from covlab.plan.programs import TABLE, Compiled, Memory
from covlab.plan.run import RunPlan
from covlab.plan.target import GIB, Chip, Target
from training import Layout

CHIP = Chip("toy", "Toy chip", "tpu", "1", {"bfloat16": 2e12, "float32": 1e12}, 1e9, 1.0, 1.0, 1000)
TARGET = Target(CHIP, (2,))
CLOCK = 2e12 / 2000


def costs(cycles: int, size: float, estimated: bool = True) -> Costs:
    def one(kind: Kind, part: float) -> Where:
        return Where("i", "fusion", "", kind, 1, int(cycles * part), size * part)

    return Costs((one("products", 0.75), one("copies", 0.25)), (), estimated)


def compiled(
    name: str, calls: int, cycles: int = 0, size: float = 0.0, gib: float = 0.1, **other
) -> Compiled:
    memory = Memory(int(gib * GIB), 1000, 1000, 0, 0)
    made = Compiled("p", name, calls, {}, 3.0, memory, costs(cycles, size, cycles > 0), "", 0, 0)
    return dataclasses.replace(made, **other)


def plan(*programs: Compiled, seeds: int = 4, layout: Layout = Layout(2, 1)) -> RunPlan:  # noqa: B008
    return RunPlan("Run", TARGET, layout, seeds, programs)


def test_memory_is_what_is_there_while_the_program_runs() -> None:
    assert Memory(100, 50, 30, 7, 5).total == 100 + 50 - 30 + 7 + 5


def test_the_roofline_is_the_larger_of_its_two_roofs() -> None:
    step = compiled("training step", 10, size=3e9)
    assert step.roofline(CHIP) == pytest.approx(3.0)
    flops = {"float32": 2 * 10**12, "bfloat16": 6 * 10**12}
    assert dataclasses.replace(step, flops=flops).roofline(CHIP) == pytest.approx(2 + 3)
    # A dtype without a figure is taken to be as slow as the slowest.
    assert dataclasses.replace(step, flops={"float64": 4 * 10**12}).roofline(CHIP) == pytest.approx(4)
    assert step.roofline(dataclasses.replace(CHIP, peak={}, bandwidth=None)) is None
    assert dataclasses.replace(step, costs=None).roofline(CHIP) is None


def test_time_is_the_compilers_where_it_estimates_and_else_the_roofline() -> None:
    step, evaluation = (
        compiled("training step", 10, cycles=int(2 * CLOCK)),
        compiled("evaluation", 3, size=5e9),
    )
    assert step.estimate(CHIP) == pytest.approx(2)
    assert step.seconds(CHIP) == pytest.approx(2)
    assert evaluation.estimate(CHIP) is None
    assert evaluation.seconds(CHIP) == pytest.approx(5)
    assert plan(step, evaluation).seconds() == pytest.approx(10 * 2 + 3 * 5)
    refused = dataclasses.replace(evaluation, phase="q", costs=None, memory=None, problem="too large")
    both = plan(step, refused)
    assert both.seconds("p") == pytest.approx(20)
    assert both.seconds() is None
    assert both.problems == ("q, evaluation: too large",)


def test_seeds_that_fit_fill_each_device_up_to_its_memory() -> None:
    # Two seeds on each of two devices; of 0.3 GiB, 0.1 are shared: 0.1 a seed, so that nine fit into 1 GiB.
    small = compiled("training step", 10, gib=0.3, shared=int(0.1 * GIB) + 10**6)
    assert plan(small).seeds_that_fit == (2 * 9, "p, training step")
    # The larger program sets the limit, and the table of samples is of one seed.
    large, table = compiled("evaluation", 1, gib=1.5), compiled(TABLE, 1, gib=0.9)
    assert plan(small, large, table).seeds_that_fit == (2 * 1, "p, evaluation")
    assert plan(compiled("evaluation", 1, gib=2.5)).seeds_that_fit == (0, "p, evaluation")
    assert plan(dataclasses.replace(small, memory=None)).seeds_that_fit is None


def test_the_page_says_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "devices", lambda self: (None, None))
    step = compiled("training step", 3600, cycles=int(2 * CLOCK), open_loops=1)
    refused = dataclasses.replace(
        compiled("evaluation", 3), memory=None, costs=None, problem="Ran out of memory in memory space hbm"
    )
    text = page("Plan of x", "covlab plan target=toy:2", TARGET, [plan(step)], ["Not planned: one stage."])
    assert "# Plan of x on toy:2\n\n`covlab plan target=toy:2`\n" in text
    assert "2 x Toy chip: 2 TFLOP/s in bfloat16, 1 TFLOP/s in float32, 1.00 GiB, 1 GB/s, 1.00 GHz." in text
    assert "4 seeds on 2 of 2 devices: 2 share the seeds, 1 the batch of a seed." in text
    assert "shares of the step's cycles: products 0.75, copies 0.25." in text
    assert "loops whose length depends on data, counted once: 1." in text
    assert "- Whole run: 2 hours, 4 chip-hours." in text
    assert "- Not planned: one stage.\n" in text
    by_roofline = page("x", "c", TARGET, [plan(compiled("training step", 3600, size=3e9))], [])
    assert "shares of the step's bytes: products 0.75, copies 0.25." in by_roofline
    assert "- Whole run: at least 3 hours, 6 chip-hours." in by_roofline
    both = page("Plan of x", "c", TARGET, [plan(step), plan(refused)], [])
    assert "- Does not fit or compile: p, evaluation: Ran out of memory in memory space hbm." in both
    assert "- Whole run: no estimate." in both
    assert "All 2 runs in turn: no estimate." in both
    assert "All 2 runs in turn: 4 hours, 8 chip-hours." in page(
        "x", "c", TARGET, [plan(step), plan(step)], []
    )
