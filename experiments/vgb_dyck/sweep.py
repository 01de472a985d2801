"""Accuracy and diversity of every decoder at several budgets of queries."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.progress import Progress

from covlab.launch.answering import answer
from covlab.launch.base_model import of_seed
from decoding import (
    VGB,
    ActionRejection,
    Ancestral,
    BacktrackingRejection,
    BlockBestOfN,
    BlockRejection,
    Decoder,
    ModelPolicy,
    ModelValues,
    OutcomeRejection,
    Problem,
)
from metrics.answers import Answers, distinct_correct
from models import Model, Params
from tasks import Task, stream
from tasks.checks import real, whole, wholes

VALUE_GUIDED = "VGB"
BLOCKS = ("block Best-of-N", "block rejection")
WITHOUT_BACKTRACKING = ("action-level rejection", *BLOCKS)
OUTCOME, BACKTRACKING = "outcome-level rejection", "backtracking rejection"
BASE = "base model"


class Method(NamedTuple):
    """A decoder with its settings; those of one family make one front together."""

    family: str
    label: str
    decoder: Decoder


@dataclasses.dataclass(frozen=True)
class Grid:
    """Budgets and parameters of the sweep.

    Attributes:
        budgets: largest numbers of queries of a response, ascending.
        block_lengths, candidates: of the block methods.
        vgb_steps: numbers of steps of VGB with a fixed number of them; those that run to the first leaf are
            in the sweep anyway.
        thresholds: of backtracking rejection's process verifier, on V^.
        samples: responses of every prompt.
        num_prompts: prompts of each set.
    """

    budgets: Sequence[int] = (128, 256, 512, 1024)
    block_lengths: Sequence[int] = (1, 2, 4, 8, 16)
    candidates: Sequence[int] = (2, 4, 8, 16, 32)
    vgb_steps: Sequence[int] = (256,)
    thresholds: Sequence[float] = (0.1, 0.3)
    samples: int = 16
    num_prompts: int = 32

    def __post_init__(self) -> None:
        for field in ("budgets", "block_lengths", "candidates", "vgb_steps"):
            values = list(getattr(self, field))
            checked = wholes(f"sweep.{field}", values, 1, at_least=int(field != "vgb_steps"))
            if values != list(checked):
                raise ValueError(f"sweep.{field}: {values}; valid: ascending integers >= 1")
            object.__setattr__(self, field, checked)
        thresholds = tuple(
            real("sweep.thresholds", threshold, above=0, most=1) for threshold in self.thresholds
        )
        object.__setattr__(self, "thresholds", thresholds)
        for field, low in (("samples", 2), ("num_prompts", 2)):
            whole(f"sweep.{field}", getattr(self, field), low)

    def methods(self, tokens: int) -> tuple[Method, ...]:
        """Every decoder, with the largest budget: smaller ones are read off the same chains.

        Block methods that cannot answer within the largest budget, with `tokens` to be drawn and a query for
        each candidate of each block, are left out.
        """
        return tuple(self._methods(max(self.budgets), tokens))

    def _methods(self, budget: int, tokens: int) -> Iterator[Method]:
        walk: dict[str, Any] = {"stop": "first_leaf", "laziness": 0.0, "steps": 100 * budget, "runs": 1}
        yield Method(VALUE_GUIDED, "first leaf", VGB(budget, **walk))
        yield Method(VALUE_GUIDED, "first leaf, momentum", VGB(budget, momentum=1.0, **walk))
        for steps in self.vgb_steps:
            fixed = VGB(budget, steps=steps, runs=64)
            yield Method(VALUE_GUIDED, f"{steps} steps", fixed)
        yield Method(BASE, "", Ancestral(budget))
        yield Method(WITHOUT_BACKTRACKING[0], "", ActionRejection(budget))
        yield Method(OUTCOME, "", OutcomeRejection(budget))
        for threshold, (stride, greedy) in itertools.product(self.thresholds, ((4, True), (1, False))):
            decoder = BacktrackingRejection(
                budget, quota=budget, stride=stride, threshold=threshold, greedy=greedy
            )
            label = f"threshold {threshold:g}, " + ("4 tokens, then greedy" if greedy else "tokenwise")
            yield Method(BACKTRACKING, label, decoder)
        for length, count in itertools.product(self.block_lengths, self.candidates):
            if count * -(-tokens // length) > budget:
                continue
            label = f"{count} of length {length}"
            yield Method(BLOCKS[0], label, BlockBestOfN(budget, block_length=length, candidates=count))
            yield Method(BLOCKS[1], label, BlockRejection(budget, block_length=length, candidates=count))


class Curve(NamedTuple):
    """A method on one set of prompts, (seeds, budgets): share of correct samples, different correct samples
    over all samples, mean queries."""

    accuracy: Float[np.ndarray, "seeds budgets"]
    diversity: Float[np.ndarray, "seeds budgets"]
    queries: Float[np.ndarray, "seeds budgets"]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """All curves: set of prompts -> method -> curve."""

    grid: Grid
    methods: tuple[Method, ...]
    curves: Mapping[str, Mapping[Method, Curve]]

    def points(
        self, prompts: str, families: Sequence[str], budget: int
    ) -> Float[np.ndarray, "seeds points 2"]:
        """(accuracy, diversity) of the families' methods at a budget."""
        column = self.grid.budgets.index(budget)
        curves = [curve for method, curve in self.curves[prompts].items() if method.family in families]
        return np.stack(
            [np.stack([c.accuracy[:, column], c.diversity[:, column]], axis=-1) for c in curves], axis=1
        )


def shortfall(points: Float[np.ndarray, "points 2"], others: Float[np.ndarray, "others 2"]) -> float:
    """Distance of `points` behind the Pareto front of `others`, both coordinates better when larger: the
    least e such that every other point has a point at most e below it in either coordinate.

    At most 0 where `points` are on or beyond the front everywhere. The additive epsilon indicator of Zitzler
    et al., Performance assessment of multiobjective optimizers, IEEE Trans. Evolutionary Computation 7(2),
    2003.

    >>> shortfall(np.array([[1.0, 0.5]]), np.array([[0.9, 0.75], [0.5, 0.25]]))
    0.25
    """
    behind = np.max(others[:, None] - points[None], axis=-1)
    return float(np.max(np.min(behind, axis=1)))


class Networks(NamedTuple):
    """Base model and value function with parameters that have a leading axis of seeds."""

    base: Model
    base_params: Params
    value: Model
    value_params: Params


def run_sweep(
    grid: Grid,
    task: Task,
    problems: Mapping[str, Problem],
    networks: Networks,
    seeds: Sequence[int],
    evaluation_seed: int,
    progress: bool = True,
) -> Sweep:
    """Decode every set of prompts with every method and seed; `task` judges them all.

    Methods are compiled and run side by side, as many as this process has devices; all sets of prompts go
    through one program.
    """
    methods = grid.methods(int(np.max(np.concatenate([problem.depth for problem in problems.values()]))))
    devices = jax.local_devices()
    networks = jax.tree.map(lambda a: np.asarray(a) if isinstance(a, jax.Array) else a, networks)
    whole = jax.tree.map(lambda *parts: np.concatenate(parts), *problems.values())
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not (progress and console.is_terminal)) as bar:
        working = bar.add_task("decoding", total=len(methods))

        def job(item: tuple[int, Method]) -> dict[str, Curve]:
            index, method = item
            with jax.default_device(devices[index % len(devices)]):
                by_method = _curves(
                    grid, method, task, whole, networks, seeds, evaluation_seed, tuple(problems)
                )
            bar.advance(working)
            if progress and not console.is_terminal:
                print(f"vgb_dyck: decoded with {method.family} {method.label}", file=sys.stderr, flush=True)
            return by_method

        with concurrent.futures.ThreadPoolExecutor(len(devices)) as pool:
            by_method = list(pool.map(job, enumerate(methods)))
    curves = {
        name: {method: of_method[name] for method, of_method in zip(methods, by_method, strict=True)}
        for name in problems
    }
    return Sweep(grid, methods, curves)


def _curves(
    grid: Grid,
    method: Method,
    task: Task,
    problem: Problem,
    networks: Networks,
    seeds: Sequence[int],
    evaluation_seed: int,
    names: tuple[str, ...],
) -> dict[str, Curve]:
    """Set of prompts -> curve; the sets lie one after the other in `problem`, equally large."""
    size = problem.prompt.shape[0]
    rows = []
    for row, seed in enumerate(seeds):
        key = stream(evaluation_seed, "evaluation", "sweep", seed)
        policy = ModelPolicy(networks.base, of_seed(networks.base_params, row), task.response_tokens)
        values = ModelValues(networks.value, of_seed(networks.value_params, row))
        answers = answer(method.decoder, task, policy, values, problem, key, grid.samples, size)
        parts = [Answers(*(np.split(array, len(names))[i] for array in answers)) for i in range(len(names))]
        rows.append([[_point(part.within(budget)) for budget in grid.budgets] for part in parts])
    # From (seeds, sets, budgets, numbers) to sets of (numbers, seeds, budgets).
    columns = np.transpose(np.asarray(rows, np.float64), (1, 3, 0, 2))
    return {name: Curve(*rows_of_one) for name, rows_of_one in zip(names, columns, strict=True)}


def _point(answers: Answers) -> tuple[float, float, float]:
    samples = answers.correct.shape[1]
    return (
        float(answers.correct.mean()),
        float(distinct_correct(answers).mean() / samples),
        float(answers.queries.mean()),
    )
