"""Accuracy and diversity of every decoder at several budgets of queries."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import sys
from collections.abc import Mapping, Sequence
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
ACTION_LEVEL, BLOCK_BEST, BLOCK_REJECTION = WITHOUT_BACKTRACKING = (
    "action-level rejection",
    "block Best-of-N",
    "block rejection",
)
OUTCOME = "outcome-level rejection"
BASE = "base model"
PLAIN = "first leaf"
"""VGB's setting without a parameter: all children, no momentum, the values as they are."""


class Method(NamedTuple):
    """A decoder with its settings and the temperature of the values."""

    family: str
    label: str
    decoder: Decoder
    temperature: float = 1.0


class Block(NamedTuple):
    """Settings of a block method."""

    length: int
    candidates: int

    def cost(self, tokens: int) -> int:
        """Queries of a response of `tokens` tokens."""
        return self.candidates * -(-tokens // self.length)


@dataclasses.dataclass(frozen=True)
class Grid:
    """Budgets and settings of the sweep.

    VGB has 2 T + 2 settings, T the number of `vgb_temperatures`: to the first leaf at each temperature,
    without and with momentum; with `vgb_children` drawn children; with `vgb_steps` steps. Every rival that
    has a setting has as many: action-level rejection the `temperatures`, a block method those of the grid
    that need most queries within the budget.

    Attributes:
        budgets: largest numbers of queries of a response, ascending.
        block_lengths, candidates: grid of the block methods.
        temperatures: of the values, for action-level rejection.
        vgb_temperatures: of the values, for VGB to the first leaf; 1 is one of them.
        vgb_children: children that VGB draws for a step, in the setting that does not enumerate them.
        vgb_steps: steps of a run of VGB, lazy ones included, in the setting that takes a fixed number.
        samples: responses of every prompt.
        num_prompts: prompts of each set.

    Raises:
        ValueError: a field out of range, or numbers of settings that differ.
    """

    budgets: Sequence[int] = (256, 512)
    block_lengths: Sequence[int] = (1, 2, 4, 8, 16)
    candidates: Sequence[int] = (2, 4, 8, 16, 32)
    temperatures: Sequence[float] = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)
    vgb_temperatures: Sequence[float] = (0.5, 1.0, 2.0)
    vgb_children: int = 4
    vgb_steps: int = 512
    samples: int = 16
    num_prompts: int = 16

    def __post_init__(self) -> None:
        for field in ("budgets", "block_lengths", "candidates"):
            values = list(getattr(self, field))
            checked = wholes(f"sweep.{field}", values, 1)
            if values != list(checked):
                raise ValueError(f"sweep.{field}: {values}; valid: ascending integers >= 1")
            object.__setattr__(self, field, checked)
        for field in ("temperatures", "vgb_temperatures"):
            numbers = tuple(real(f"sweep.{field}", number, above=0) for number in getattr(self, field))
            if list(numbers) != sorted(set(numbers)):
                raise ValueError(f"sweep.{field}: {list(numbers)}; valid: ascending numbers > 0")
            object.__setattr__(self, field, numbers)
        if 1.0 not in self.vgb_temperatures:
            raise ValueError(f"sweep.vgb_temperatures: {list(self.vgb_temperatures)}; valid: 1 among them")
        if len(self.temperatures) != self.settings:
            raise ValueError(
                f"sweep.temperatures: {len(self.temperatures)}; valid: as many as VGB has settings, "
                f"{self.settings}"
            )
        least = {"vgb_children": 1, "vgb_steps": 1, "samples": 2, "num_prompts": 2}
        for field, low in least.items():
            whole(f"sweep.{field}", getattr(self, field), low)

    @property
    def settings(self) -> int:
        """Number of settings of VGB and of each rival with settings."""
        return 2 * len(self.vgb_temperatures) + 2

    def blocks(self, tokens: int, budget: int) -> tuple[Block, ...]:
        """The block methods' settings at a budget: those that need most queries within it, by the length of a
        block where they need equally many.

        Raises:
            ValueError: fewer than `settings` of the grid can answer within the budget.
        """
        every = [Block(length, count) for length in self.block_lengths for count in self.candidates]
        fitting = [block for block in every if block.cost(tokens) <= budget]
        if len(fitting) < self.settings:
            raise ValueError(
                f"sweep.budgets: {budget} queries allow {len(fitting)} settings of the block methods for "
                f"{tokens} tokens; valid: {self.settings} or more"
            )
        fitting.sort(key=lambda block: (-block.cost(tokens), block.length))
        return tuple(fitting[: self.settings])

    def methods(self, tokens: int) -> tuple[Method, ...]:
        """Every decoder, with the largest budget: smaller ones are read off the same chains.

        Raises:
            ValueError: as `blocks`.
        """
        budget = max(self.budgets)
        walk: dict[str, Any] = {"stop": "first_leaf", "laziness": 0.0, "steps": 100 * budget, "runs": 1}
        made = [Method(OUTCOME, "", OutcomeRejection(budget)), Method(BASE, "", Ancestral(budget))]
        for temperature in self.vgb_temperatures:
            suffix = "" if temperature == 1 else f", temperature {temperature:g}"
            made.append(Method(VALUE_GUIDED, PLAIN + suffix, VGB(budget, **walk), temperature))
            lifted = VGB(budget, momentum=1.0, **walk)
            made.append(Method(VALUE_GUIDED, f"{PLAIN}, momentum{suffix}", lifted, temperature))
        few = VGB(budget, children=self.vgb_children, **walk)
        made.append(Method(VALUE_GUIDED, f"{PLAIN}, {self.vgb_children} children", few))
        fixed = VGB(budget, steps=self.vgb_steps, runs=100)
        made.append(Method(VALUE_GUIDED, f"{self.vgb_steps} steps", fixed))
        for temperature in self.temperatures:
            label = f"temperature {temperature:g}"
            made.append(Method(ACTION_LEVEL, label, ActionRejection(budget), temperature))
        for block in sorted({block for each in self.budgets for block in self.blocks(tokens, each)}):
            fields = {"block_length": block.length, "candidates": block.candidates}
            made.append(Method(BLOCK_BEST, _label(block), BlockBestOfN(budget, **fields)))
            made.append(Method(BLOCK_REJECTION, _label(block), BlockRejection(budget, **fields)))
        return tuple(made)


def _label(block: Block) -> str:
    return f"{block.candidates} of length {block.length}"


class Curve(NamedTuple):
    """A method on one set of prompts: share of correct samples, different correct samples over all samples,
    mean queries, with at most so many queries a response."""

    accuracy: Float[np.ndarray, "seeds prompts budgets"]
    diversity: Float[np.ndarray, "seeds prompts budgets"]
    queries: Float[np.ndarray, "seeds prompts budgets"]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """All curves.

    Attributes:
        grid: settings.
        tokens: tokens that are left to a prompt.
        curves: method -> curve on the out-of-distribution prompts.
        in_distribution: the base model's curve on prompts of the training distribution.
    """

    grid: Grid
    tokens: int
    curves: Mapping[Method, Curve]
    in_distribution: Curve

    def methods(self, family: str, budget: int) -> tuple[Method, ...]:
        """The family's settings at a budget."""
        labels = {_label(block) for block in self.grid.blocks(self.tokens, budget)}
        fits = family not in (BLOCK_BEST, BLOCK_REJECTION)
        return tuple(m for m in self.curves if m.family == family and (fits or m.label in labels))

    def points(self, methods: Sequence[Method], budget: int) -> Float[np.ndarray, "seeds prompts settings 2"]:
        """(accuracy, diversity) of the methods at a budget."""
        column = self.grid.budgets.index(budget)
        curves = [self.curves[method] for method in methods]
        pairs = [np.stack([c.accuracy[..., column], c.diversity[..., column]], axis=-1) for c in curves]
        return np.stack(pairs, axis=2)

    def plain(self) -> Method:
        """VGB to the first leaf, without a parameter."""
        (method,) = [m for m in self.curves if (m.family, m.label) == (VALUE_GUIDED, PLAIN)]
        return method


class Networks(NamedTuple):
    """Base model and value function with parameters that have a leading axis of seeds."""

    base: Model
    base_params: Params
    value: Model
    value_params: Params


def run_sweep(
    grid: Grid,
    task: Task,
    outside: Problem,
    inside: Problem,
    networks: Networks,
    seeds: Sequence[int],
    evaluation_seed: int,
    progress: bool = True,
) -> Sweep:
    """Decode the out-of-distribution prompts `outside` with every method and seed, and the prompts `inside`
    of the training distribution with the base model; `task` judges them all.

    Methods are compiled and run side by side, as many as this process has devices.

    Raises:
        ValueError: as `Grid.blocks`.
    """
    tokens = int(np.max(outside.depth))
    methods = grid.methods(tokens)
    (base,) = [method for method in methods if method.family == BASE]
    devices = jax.local_devices()
    networks = jax.tree.map(lambda a: np.asarray(a) if isinstance(a, jax.Array) else a, networks)
    console = Console(stderr=True)
    jobs = [*((method, outside, "") for method in methods), (base, inside, " in distribution")]
    with Progress(console=console, transient=True, disable=not (progress and console.is_terminal)) as bar:
        working = bar.add_task("decoding", total=len(jobs))

        def job(item: tuple[int, tuple[Method, Problem, str]]) -> Curve:
            index, (method, problem, where) = item
            with jax.default_device(devices[index % len(devices)]):
                curve = _curve(grid, method, task, problem, networks, seeds, evaluation_seed)
            bar.advance(working)
            if progress and not console.is_terminal:
                name = f"{method.family} {method.label}".strip() + where
                print(f"vgb_dyck: decoded with {name}", file=sys.stderr, flush=True)
            return curve

        with concurrent.futures.ThreadPoolExecutor(len(devices)) as pool:
            curves = list(pool.map(job, enumerate(jobs)))
    return Sweep(grid, tokens, dict(zip(methods, curves[:-1], strict=True)), curves[-1])


def _curve(
    grid: Grid,
    method: Method,
    task: Task,
    problem: Problem,
    networks: Networks,
    seeds: Sequence[int],
    evaluation_seed: int,
) -> Curve:
    rows = []
    for row, seed in enumerate(seeds):
        key = stream(evaluation_seed, "evaluation", "sweep", seed)
        policy = ModelPolicy(networks.base, of_seed(networks.base_params, row), task.response_tokens)
        values = ModelValues(networks.value, of_seed(networks.value_params, row), method.temperature)
        size = problem.prompt.shape[0]
        answers = answer(method.decoder, task, policy, values, problem, key, grid.samples, size)
        rows.append([_numbers(answers.within(budget)) for budget in grid.budgets])
    # From (seeds, budgets, numbers, prompts) to numbers of (seeds, prompts, budgets).
    return Curve(*np.transpose(np.asarray(rows, np.float64), (2, 0, 3, 1)))


def _numbers(answers: Answers) -> Float[np.ndarray, "numbers prompts"]:
    samples = answers.correct.shape[1]
    return np.stack(
        [
            answers.correct.mean(axis=1),
            distinct_correct(answers) / samples,
            answers.queries.mean(axis=1),
        ]
    )
