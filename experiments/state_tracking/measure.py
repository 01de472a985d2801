"""States that trained models read off strings of group elements, by the number of elements read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from covlab.claims.claim import Study
from covlab.claims.settings import Overrides, Real, Whole, check_mapping, mapping
from covlab.claims.trained import bound_excess, finished_seeds, score_checkpoints
from covlab.launch.build import PHASE_KEYS
from covlab.launch.trained import TrainedRun
from metrics import coverage_profile
from metrics.evaluators import Batch, Evaluator, HeldOut
from models import Model, Params, token_log_probs
from tasks import Task
from tasks.group_word import GroupWord
from tracking import load_run

GROUPS: Mapping[str, str] = {"parity": "z2", "s3": "s3"}
"""Problem -> `task.group`."""
ORDERS: Mapping[str, int] = {"parity": 2, "s3": 6}
"""Problem -> number of elements of its group."""
CELLS: Mapping[str, tuple[bool, int]] = {
    "positive_1": (False, 1),
    "positive_2": (False, 2),
    "negative_1": (True, 1),
    "negative_2": (True, 2),
}
"""Model -> whether beta reaches 2 (eigenvalues in [-1, 1]) or 1 (in [0, 1]), and Householder steps."""
COMPARED = ("lstm", "transformer")
SOLVES: Mapping[str, Sequence[str]] = {"parity": ("negative_1", "negative_2"), "s3": ("negative_2",)}
"""Problem -> the models of `CELLS` that are predicted to solve it; the others are predicted not to."""


_KEYS = (*PHASE_KEYS, "delta")


def problems(field: str, value: Any) -> dict[str, dict[str, Any]]:
    """Overrides by problem: fields of a phase, and `delta`, options of the models with the delta rule.

    Raises:
        ValueError: no problem, an unknown one, or another field.
    """
    for name in check_mapping(field, value):
        if name not in GROUPS:
            raise ValueError(f"{field}: {name!r} is not one of {', '.join(GROUPS)}")
    return {name: Overrides(_KEYS)(f"{field}.{name}", changes) for name, changes in value.items()}


def compared(field: str, value: Any) -> dict[str, Any]:
    """Options of models by name; null or {} for none.

    Raises:
        ValueError: an unknown name, or a value that is not a mapping.
    """
    found = Overrides(COMPARED)(field, value)
    return {name: mapping(f"{field}.{name}", options) for name, options in found.items()}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of its runs are of experiments.train.

    Attributes:
        delta: options of the models with the delta rule, arguments of `models.delta_net.DeltaProduct`.
        problems: parity and s3, or one of them, with overrides of its runs: fields of a phase, and `delta`.
        compared: options of the models without a prediction, by name: lstm, transformer.
        solved: accuracy in the range of largest lengths from which on a seed has solved a problem.
        fresh_examples: prompts of each range of lengths for all measurements.
    """

    delta: Annotated[Mapping[str, Any], mapping]
    problems: Annotated[Mapping[str, Mapping[str, Any]], problems]
    compared: Annotated[Mapping[str, Any], compared]
    solved: Annotated[float, Real(above=0.5, most=1)]
    fresh_examples: Annotated[int, Whole(16)]


@dataclasses.dataclass(frozen=True)
class StateEvaluator(Evaluator):
    """Log-probability and greedy choice of every token of the right answer.

    Names: `accuracy`, the mean over the tokens of all prompts.
    """

    name: str = dataclasses.field(default="states", init=False)

    def score(self, model: Model, task: Task, params: Params, batch: Batch) -> dict[str, Array]:
        """`log_prob` in nats, `right` and `asked`, (batch, tokens); `asked` is False at padding."""
        example, found, _ = batch
        logits = model.logits(params, example.prompt, example.prompt_mask, found.responses)
        asked = found.mask[:, 0]
        return {
            "log_prob": jnp.where(asked, token_log_probs(logits, found.responses)[:, 0], 0.0),
            "right": (jnp.argmax(logits, axis=-1) == found.responses)[:, 0] & asked,
            "asked": asked,
        }

    def reduce(self, scores: dict[str, np.ndarray], held_out: HeldOut) -> Iterator[tuple[str, float]]:
        """The mean."""
        count = held_out.num_examples
        yield "accuracy", float(scores["right"][:count].sum() / scores["asked"][:count].sum())


@dataclasses.dataclass(frozen=True)
class Run:
    """The last checkpoints of a run on fresh prompts. Token t, from 1, is the product of t elements.

    Attributes:
        log_prob: ln pi_hat of every right token in nats, 0 after the last.
        right: whether the greedy token is right, False after the last.
        lengths: number of elements of each prompt's string, which is that of the tokens of its response.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation, <= 0 up to
            rounding.
    """

    log_prob: Float[np.ndarray, "seeds prompts tokens"]
    right: Bool[np.ndarray, "seeds prompts tokens"]
    lengths: Int[np.ndarray, " prompts"]
    bound_excess: float

    def accuracy(self, within: tuple[int, int]) -> Float[np.ndarray, " seeds"]:
        """Share of right tokens among those after `within` (least, largest) elements, in all strings."""
        read = np.arange(1, self.right.shape[2] + 1)
        asked = (read <= self.lengths[:, None]) & (read >= within[0]) & (read <= within[1])
        return self.right[:, asked].mean(axis=1)

    def strings(self, within: tuple[int, int]) -> Bool[np.ndarray, " prompts"]:
        """The strings whose number of elements is within (least, largest)."""
        return (self.lengths >= within[0]) & (self.lengths <= within[1])

    def whole(self, within: tuple[int, int]) -> Float[np.ndarray, " seeds"]:
        """Share of the strings of these lengths whose greedy response has no wrong token."""
        return np.mean(self.right.sum(axis=2) == self.lengths, axis=1, where=self.strings(within))

    def coverage(self, within: tuple[int, int], ns: Sequence[float]) -> Float[np.ndarray, "seeds n"]:
        """Cov_N of whole responses on the strings of these lengths: pi_D has one response, X = -ln pi_hat."""
        log_ratio = -self.log_prob.sum(axis=2)[:, self.strings(within)]
        return np.array([coverage_profile(row, ns) for row in log_ratio])


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        solved: accuracy from which on a seed has solved a problem.
        ranges: problem -> (least, largest) length of each range, the first of which is trained on.
        coverage_ns: the N of Cov_N in the tables.
        seeds: those that finished every run.
        left_out: one text for each seed that did not, in which run.
        runs: problem -> model -> run.
    """

    solved: float
    ranges: dict[str, tuple[tuple[int, int], ...]]
    coverage_ns: tuple[float, ...]
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    runs: dict[str, dict[str, Run]]

    def solvers(self, problem: str, model: str) -> int:
        """Number of seeds whose accuracy in the range of largest lengths is at least `solved`."""
        return int(np.sum(self.runs[problem][model].accuracy(self.ranges[problem][-1]) >= self.solved))


def name_of(problem: str, model: str) -> str:
    """Name of a run."""
    return f"{problem}_{model}"


def measure(settings: Settings, study: Study) -> Measurements:
    """Score the last checkpoints on fresh prompts.

    Seeds that diverged in one run are left out of all.

    Raises:
        ValueError: fewer than two seeds finished every run, or a run that cannot be read.
    """
    first = next(iter(study.runs.values())).setup
    frames = {name: load_run(run.path) for name, run in study.runs.items()}
    seeds, left_out = finished_seeds(frames, first.seeds)
    models = (*CELLS, *settings.compared)
    return Measurements(
        solved=settings.solved,
        ranges={problem: _ranges(study.runs[name_of(problem, models[0])]) for problem in settings.problems},
        coverage_ns=tuple(float(n) for n in first.evaluation[-1].coverage_ns),
        seeds=seeds,
        left_out=left_out,
        runs={
            problem: {
                model: _measure_run(settings, study.runs[name_of(problem, model)], seeds) for model in models
            }
            for problem in settings.problems
        },
    )


def _ranges(run: TrainedRun) -> tuple[tuple[int, int], ...]:
    task = run.setup.phases[-1].task
    assert isinstance(task, GroupWord)
    return task.ranges


def _measure_run(settings: Settings, run: TrainedRun, seeds: Sequence[int]) -> Run:
    """Fresh prompts come from the stream (evaluation.seed, "evaluation", "lengths", class)."""
    evaluation = dataclasses.replace(run.setup.evaluation[-1], num_examples=settings.fresh_examples)
    held_out = evaluation.held_out(run.setup.phases[-1].task, "lengths")
    _, by_step = score_checkpoints(run, seeds, StateEvaluator(), held_out, 1)
    scores = {
        key: np.array([one[key] for one in by_step[-1]])[:, : held_out.num_examples]
        for key in ("log_prob", "right", "asked")
    }
    return Run(
        log_prob=scores["log_prob"].astype(np.float64),
        right=scores["right"],
        lengths=scores["asked"][0].sum(axis=1),
        bound_excess=bound_excess(run),
    )
