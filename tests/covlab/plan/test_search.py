"""The search for the way that finishes soonest, with plans whose times are known."""

from __future__ import annotations

import pytest
from omegaconf import DictConfig

from covlab.launch.composing import compose
from covlab.plan.costs import Costs, Where
from covlab.plan.page import page
from covlab.plan.programs import Compiled, Memory
from covlab.plan.run import RunPlan
from covlab.plan.search import Candidate, candidates, divisors, soonest
from covlab.plan.target import Chip, Target
from training import Layout

TARGET = Target(Chip("toy", "Toy", "tpu", "1", {"bfloat16": 2000.0}, 1.0, 1.0, 1.0, 1), (4,))
"""1000 cycles a second."""


def run_of(config: DictConfig, most: int = 8) -> RunPlan:
    """A run takes 5 s, and 1 s more for each seed over the devices that share its batch; at most `most` seeds
    fit."""
    seconds = 5 + config.seeds / config.data_parallel
    cost = Costs((Where("i", "fusion", "", "products", 1, int(1000 * seconds), 0.0),), (), True)
    problem = "too large" if config.seeds > most else ""
    step = Compiled("p", "training step", 1, {}, 0.0, Memory(8, 0, 0, 0, 0), cost, problem, 0, 0)
    return RunPlan("Run", TARGET, Layout(), config.seeds, (step,))


def config(*overrides: str) -> DictConfig:
    return compose("train", ["seeds=12", "batch_size=6", *overrides]).config


def test_every_way_to_share_seeds_and_devices_is_tried() -> None:
    found = list(candidates(config(), 4, run_of))
    # Four devices do not divide a batch of six.
    tried = [(each.seeds, each.data_parallel, each.turns) for each in found]
    assert tried == [(count, shared, 12 // count) for shared in (1, 2) for count in (1, 2, 3, 4, 6, 12)]
    assert [each.seconds for each in found[:3]] == pytest.approx([12 * 6, 6 * 7, 4 * 8])


def test_the_soonest_fits_and_no_more_seeds_are_tried_than_one_number_that_does_not() -> None:
    found = list(candidates(config(), 4, lambda own: run_of(own, most=3)))
    assert [each.seeds for each in found if each.data_parallel == 1] == [1, 2, 3, 4]
    assert [each.seconds for each in found if each.seeds == 4] == [None, None]
    best = soonest(found)
    assert best is not None
    # 4 x (5 + 3/2) s.
    assert (best.seeds, best.data_parallel, best.seconds) == (3, 2, pytest.approx(26))


def test_without_one_that_fits_there_is_no_soonest() -> None:
    found = list(candidates(config(), 1, lambda own: run_of(own, most=0)))
    assert [each.seeds for each in found] == [1]
    assert soonest(found) is None
    text = page("Plan", "c", TARGET, [], [], found)
    assert "None of them fits and has an estimate." in text
    assert "too large" in text


def test_the_page_lists_the_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "devices", lambda self: (None,) * 4)
    found = [Candidate(4, 1, 3, run_of(config("seeds=4", "data_parallel=1"), 8))]
    text = page("Plan", "c", TARGET, [found[0].run], [], found)
    assert "Soonest: seeds=4 data_parallel=1, 3 in turn." in text


def test_divisors() -> None:
    assert divisors(1) == [1]
    assert divisors(16) == [1, 2, 4, 8, 16]
