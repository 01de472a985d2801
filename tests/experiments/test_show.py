"""Examples as text: what is printed is what the task says."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from experiments import show
from tasks import LayeredGraph

pytestmark = pytest.mark.long

TASK = LayeredGraph(depth=2, width=2, branching=2, num_ids=8, mixture={"G1": 0.25, "G2": 0.25, "G3": 0.5})


def test_entropy_is_the_closed_form() -> None:
    # Bit 1: P(G1|x) = 1/4 / (1/4 + 1/4) = 1/2, so pi_D is half the rule's path, half uniform on four paths;
    # bit 0 likewise.
    probabilities = [1 / 2 + 1 / 8, 1 / 8, 1 / 8, 1 / 8]
    expected = -sum(p * math.log(p) for p in probabilities)
    entropy = show.entropy_of_task(TASK)
    assert entropy.estimate == pytest.approx(expected, rel=1e-5)
    assert entropy.low <= expected * (1 + 1e-5)
    assert entropy.high >= expected * (1 - 1e-5)


def test_entropy_of_a_deterministic_task_is_zero() -> None:
    assert show.entropy_of_task(LayeredGraph(depth=2, width=2, num_ids=8)).estimate == 0.0


def test_answers_are_all_valid_paths_with_their_probabilities() -> None:
    example = jax.tree.map(lambda a: np.asarray(a)[0], show.draw_examples(TASK, 1, seed=3, group="G1"))
    rows = show.answers(TASK, example.latent)
    assert [round(p, 5) for _, p, _ in rows] == [0.625, 0.125, 0.125, 0.125]
    assert [reward for _, _, reward in rows] == [1, 0, 0, 0]
    assert rows[0][0] == TASK.decode(example.response)
    assert len({text for text, _, _ in rows}) == 4


def test_examples_depend_on_the_seed_alone_and_obey_the_class() -> None:
    first, again, other = (show.draw_examples(TASK, 8, seed) for seed in (0, 0, 1))
    assert (np.asarray(first.prompt) == np.asarray(again.prompt)).all()
    assert not (np.asarray(first.prompt) == np.asarray(other.prompt)).all()
    assert set(np.asarray(show.draw_examples(TASK, 8, 0, "G3").group).tolist()) == {2}


def test_command_prints_plain_text(call: Callable[..., object]) -> None:
    tiny = ["task.depth=2", "task.width=2", "task.num_ids=8"]
    ended = call(show.main, *tiny, "num=2", "group=G2")
    assert ended.status == 0
    assert ended.err == ""
    assert "\x1b" not in ended.out
    assert re.findall(r"class: (\w+)", ended.out) == ["G2", "G2"]
    assert "classes: G1 0.9, G2 0.1" in ended.out
    prompts = re.findall(r"prompt: ([\d |/]+=)\n", ended.out)
    task = LayeredGraph(depth=2, width=2, num_ids=8)
    assert len(prompts) == 2
    for prompt in prompts:
        assert task.decode(task.encode(prompt)) == prompt
    assert len(re.findall(r"^\| [\d ]+ \| 1 +\| 1 +\| \* +\|$", ended.out, re.MULTILINE)) == 2


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("group=G3", "group: 'G3' is no class of the mixture; valid are G1, G2"),
        ("num=0", "num: 0 is not an integer >= 1"),
        ("seed=-1", "seed: -1 is not an integer from 0 to 2147483647"),
        ("task.depth=0", "task.depth: 0 is not an integer >= 1"),
        ("task.dpeth=3", "task.dpeth: no such key; valid are"),
    ],
)
def test_bad_input_is_one_line(argument: str, message: str, call: Callable[..., object]) -> None:
    ended = call(show.main, argument)
    assert ended.status == 2
    assert ended.err.startswith(f"error: {message}")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("how", [["--multirun"], ["hydra.mode=MULTIRUN"], ["+hydra.sweeper.params.num=0,-1"]])
def test_jobs_of_a_command_that_makes_no_runs_share_one_process(
    how: list[str], call: Callable[..., Any], tmp_path: Path
) -> None:
    ended = call(show.main, *how, *(["num=0,-1"] if len(how[0]) < 25 else []))
    assert ended.err.splitlines() == [f"error: num: {num} is not an integer >= 1" for num in (0, -1)]
    assert ended.status == 2
    # Hydra's own note of the sweep, out of the way.
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
