"""Token log-probabilities of models on path-star graphs: on fresh prompts, along every arm.

A response has l tokens: the start, the node after it (forward, the only choice: which arm), and the rest of
the arm. "Clever Hans" (Bachmann and Nagarajan, arXiv 2403.06963): teacher forcing shows the right node after
the choice, so that the rest is looked up edge by edge and learned, and little is left to teach the choice.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from covlab.claims.claim import Study
from covlab.claims.settings import Overrides, Real, Whole
from covlab.claims.trained import evaluations, finished_seeds, score_checkpoints
from covlab.launch.build import PHASE_KEYS
from covlab.launch.trained import TrainedRun
from metrics import coverage_profile, pass_at_n
from metrics.evaluators import Batch, Evaluator, HeldOut
from models import Model, Params, token_log_probs
from tasks import Task
from tracking import load_run

FORWARD, REVERSED, TEACHERLESS, MULTI_TOKEN = "forward", "reversed", "teacherless", "multi_token"
RECURRENT = "recurrent"
NAMES = (FORWARD, REVERSED, TEACHERLESS, MULTI_TOKEN, RECURRENT)
CURVES = ("kl", "accuracy", "validity")


_RUN_KEYS = ("model", *PHASE_KEYS)


def per_run(field: str, value: Any) -> dict[str, dict[str, Any]]:
    """Overrides by the name of a run: fields of a phase, or of the model.

    Raises:
        ValueError: a run or a field that does not exist.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{field}: {value!r} is not a mapping from a run's name to overrides")
    for name in value:
        if name not in NAMES:
            raise ValueError(f"{field}: {name!r} is not one of {', '.join(NAMES)}")
    return {name: Overrides(_RUN_KEYS)(f"{field}.{name}", changes) for name, changes in value.items()}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of its runs are of experiments.train.

    Attributes:
        per_run: overrides of one run, by its name: forward, reversed, teacherless, multi_token or
            recurrent.
        factor: Cov_N is measured at N = d/factor, where Clever Hans has 1, and at N = d factor, where it has
            0.
        fresh_examples: prompts for everything that the checks are computed on.
        fresh_checkpoints: saved checkpoints that are scored on them.
    """

    per_run: Annotated[Mapping[str, Mapping[str, Any]], per_run]
    factor: Annotated[float, Real(above=1)]
    fresh_examples: Annotated[int, Whole(16)]
    fresh_checkpoints: Annotated[int, Whole(1)]


@dataclasses.dataclass(frozen=True)
class ArmScores:
    """One model on fresh prompts, along all arms of each; nats.

    Attributes:
        tokens: ln pi_hat(y_t | x, y_<t) of every token of every arm.
        crossing: ln pi_hat(y*_t | x, y_<t) of the right arm's token y*_t after the tokens y_<t of every arm.
        greedy: whether greedy decoding writes that arm.
        right: whether the arm ends in the goal; one arm of each prompt does.
    """

    tokens: Float[np.ndarray, "prompts arms length"]
    crossing: Float[np.ndarray, "prompts arms length"]
    greedy: Bool[np.ndarray, "prompts arms"]
    right: Bool[np.ndarray, "prompts arms"]

    @property
    def right_tokens(self) -> Float[np.ndarray, "prompts length"]:
        """ln pi_hat of every token of the right arm, given the tokens before."""
        return self.tokens[self.right]

    @property
    def log_ratio(self) -> Float[np.ndarray, " prompts"]:
        """X = ln pi_D - ln pi_hat of the right arm; pi_D is 1 there."""
        return -self.right_tokens.sum(axis=1)

    @property
    def correct(self) -> Bool[np.ndarray, " prompts"]:
        """True where greedy decoding writes the right arm."""
        return np.any(self.greedy & self.right, axis=1)

    @property
    def valid(self) -> Float[np.ndarray, " prompts"]:
        """Total probability of the arms."""
        return np.exp(self.tokens.sum(axis=2)).sum(axis=1)

    @property
    def follows(self) -> Float[np.ndarray, " prompts"]:
        """Total probability of the responses that agree with some arm up to its last token but one.

        The last token is left out, because in training it is the goal whatever the path: a model that copies
        the goal from the prompt and one that looks up the last edge differ on wrong arms alone.
        """
        return np.exp(self.tokens[..., :-1].sum(axis=2)).sum(axis=1)

    @property
    def crosses(self) -> Float[np.ndarray, " prompts"]:
        """Probability of the right arm's third token after the second token of a wrong arm, their mean.

        Near 0 for a model that follows the edge from the token before. With four tokens the third is one
        look-up back from the goal too: a model that looks there has 1, and agrees on the right arm.
        """
        wrong = ~self.right
        return np.sum(np.exp(self.crossing[..., 2]) * wrong, axis=1) / wrong.sum(axis=1)

    @property
    def loss(self) -> Float[np.ndarray, " length"]:
        """Mean over the prompts of -ln pi_hat of each token of the right arm."""
        return -self.right_tokens.mean(axis=0)

    def coverage(self, n: float) -> Bool[np.ndarray, " prompts"]:
        """Which prompts count for Cov_N."""
        return coverage_profile(self.log_ratio[:, None], (n,))[:, 0] > 0

    def passes(self, ns: Sequence[int]) -> Float[np.ndarray, "prompts n"]:
        """Exact Pass@N of each prompt."""
        return pass_at_n(-self.log_ratio, ns)


class ClosedForm(NamedTuple):
    """A model that puts 1/d on every arm: cross-entropy (nats), N -> Cov_N, N -> Pass@N."""

    cross_entropy: float
    cov: dict[float, float]
    passes: dict[int, float]


def clever_hans(arms: int, coverage_ns: Sequence[float], pass_ns: Sequence[int]) -> ClosedForm:
    """ln d, 1{N <= d}, 1 - (1 - 1/d)^N.

    Source: derived from the task of Bachmann and Nagarajan, arXiv 2403.06963.
    """
    return ClosedForm(
        cross_entropy=math.log(arms),
        cov={float(n): float(n <= arms) for n in coverage_ns},
        passes={int(n): 1 - (1 - 1 / arms) ** n for n in pass_ns},
    )


@dataclasses.dataclass(frozen=True)
class ArmEvaluator(Evaluator):
    """Token log-probabilities along all arms of each prompt.

    Names: `loss/<t>`, the mean loss of the t-th token of the right arm, from 1.
    """

    name: str = dataclasses.field(default="arms", init=False)

    def score(self, model: Model, task: Task, params: Params, batch: Batch) -> dict[str, Array]:
        """`tokens` and `crossing`, (batch, arms, length), and `greedy`, (batch, arms)."""
        example, extras, _ = batch
        logits = model.logits(params, example.prompt, example.prompt_mask, extras.responses)
        return {
            "tokens": token_log_probs(logits, extras.responses),
            "crossing": token_log_probs(
                logits, jnp.broadcast_to(example.response[:, None], extras.responses.shape)
            ),
            "greedy": (logits.argmax(axis=-1) == extras.responses).all(axis=-1),
        }

    def reduce(self, scores: dict[str, np.ndarray], held_out: HeldOut) -> Iterator[tuple[str, float]]:
        """Means over the prompts, token by token."""
        for t, value in enumerate(arm_scores(scores, held_out).loss.tolist(), start=1):
            yield f"loss/{t}", value


def arm_scores(scores: Mapping[str, np.ndarray], held_out: HeldOut) -> ArmScores:
    """One seed's arrays from `ArmEvaluator.score`, without the repetitions that fill the last batch."""
    count = held_out.num_examples
    tokens, crossing = (np.asarray(scores[name], np.float64)[:count] for name in ("tokens", "crossing"))
    return ArmScores(tokens, crossing, np.asarray(scores["greedy"])[:count], held_out.correct)


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of the claim; (seeds, checkpoints) arrays have the measured seeds in order.

    Attributes:
        steps: of the evaluations during training.
        curves: "kl" (nats), "accuracy" and "validity" on the held-out set.
        checkpoints: steps whose parameters were scored on fresh prompts.
        loss: at these, the mean loss of every token of the right arm, nats.
        last: each seed's last checkpoint on the fresh prompts.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation, <= 0 up to
            rounding.
    """

    steps: Int[np.ndarray, " evaluations"]
    curves: dict[str, Float[np.ndarray, "seeds evaluations"]]
    checkpoints: tuple[int, ...]
    loss: Float[np.ndarray, "seeds checkpoints length"]
    last: tuple[ArmScores, ...]
    bound_excess: float


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        arms: d.
        factor: Cov_N is asked at N = d/factor and N = d factor, either side of Clever Hans's step at d.
        pass_ns: the N of Pass@N.
        seeds: those that finished every run.
        left_out: one text for each seed that did not, in which run.
        runs: name -> run.
    """

    arms: int
    factor: float
    pass_ns: tuple[int, ...]
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    runs: dict[str, Run]

    @property
    def inside(self) -> float:
        """d/factor."""
        return self.arms / self.factor

    @property
    def outside(self) -> float:
        """d factor."""
        return self.arms * self.factor


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the runs, and score their checkpoints on fresh prompts.

    Seeds that diverged in one run are left out of all.

    Raises:
        ValueError: fewer than two seeds finished every run, or a run that cannot be read.
    """
    frames = {name: load_run(run.path) for name, run in study.runs.items()}
    first = study.runs[FORWARD].setup
    seeds, left_out = finished_seeds(frames, first.seeds)
    task: Any = first.phases[-1].task
    return Measurements(
        arms=task.arms,
        factor=settings.factor,
        pass_ns=tuple(int(n) for n in first.evaluation[-1].pass_ns),
        seeds=seeds,
        left_out=left_out,
        runs={name: _measure_run(settings, run, seeds, frames[name]) for name, run in study.runs.items()},
    )


def _measure_run(settings: Settings, run: TrainedRun, seeds: Sequence[int], frame: Any) -> Run:
    """Fresh prompts come from the stream (evaluation.seed, "evaluation", "arms", class)."""
    curves = {name: evaluations(frame, seeds, name) for name in CURVES}
    evaluation = dataclasses.replace(run.setup.evaluation[-1], num_examples=settings.fresh_examples)
    held_out = evaluation.held_out(run.setup.phases[-1].task, "arms")
    checkpoints, scores = score_checkpoints(run, seeds, ArmEvaluator(), held_out, settings.fresh_checkpoints)
    by_seed = [tuple(arm_scores(of_seed, held_out) for of_seed in at_step) for at_step in scores]
    return Run(
        steps=curves["kl"].columns.to_numpy(),
        curves={name: table.to_numpy(float) for name, table in curves.items()},
        checkpoints=checkpoints,
        loss=np.swapaxes(np.array([[of_one.loss for of_one in at_seed] for at_seed in by_seed]), 0, 1),
        last=by_seed[-1],
        bound_excess=float(frame["eval/bound_excess"].max()),
    )
