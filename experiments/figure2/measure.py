"""Curves and converged values of each horizon, beside the closed forms of models without the hard rule."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from covlab.claims.claim import Study
from covlab.claims.matrices import RunMatrices, run_matrices
from covlab.claims.settings import Overrides, Real, Whole, Wholes
from covlab.claims.trained import bound_excess, require_finished
from covlab.launch.build import PHASE_KEYS
from covlab.launch.settings import EvaluationSettings
from experiments.figure2.branching import XOR, Branching, hard_class, measure_branching
from metrics import check_coverage_bound, coverage_profile, kl, log_density_ratio
from tasks import LayeredGraph

EASY = ("chain", "uniform")
"""The classes beside the hard one."""
TAIL = 0.125
"""The last eighth of the training's steps: a converged value is the mean of the evaluations in it."""
LOCAL_FACTOR = 16
"""Cov at N = LOCAL_FACTOR 2^(H/2) on the hard class says whether the local rule is learned: fair guesses
among the 2^(H/2) valid paths have the ratio 2^(H/2), and this N lies ln 16 = 2.77 nats above them, which
leaves room for guesses that are not quite fair and for some mass off the valid paths."""

PAPER_N = 16.0
"""The paper's N."""


def run_name(depth: int) -> str:
    """The name of a horizon's run, "H6"."""
    return f"H{depth}"


def per_horizon(field: str, value: Any) -> dict[str, dict[str, Any]]:
    """Overrides of fields of a phase, by the name of a horizon's run.

    Raises:
        ValueError: not a mapping of mappings, or a field that a phase does not have.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{field}: {value!r} is not a mapping from H<horizon> to overrides")
    return {str(name): Overrides(PHASE_KEYS)(f"{field}.{name}", changes) for name, changes in value.items()}


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of its runs are of experiments.train.

    Attributes:
        horizons: numbers H of intermediate layers.
        per_horizon: overrides of one horizon's run, for example {H24: {steps: 8000}}.
        n: N of the Cov_N that is judged.
        branching_examples: fresh prompts for the loss in each branching layer of the hard class.
        branching_checkpoints: saved checkpoints that are scored on them.
    """

    horizons: Annotated[tuple[int, ...], Wholes(2, at_least=3)]
    per_horizon: Annotated[Mapping[str, Mapping[str, Any]], per_horizon]
    n: Annotated[float, Real(least=1)]
    branching_examples: Annotated[int, Whole(16)]
    branching_checkpoints: Annotated[int, Whole(1)]

    def __post_init__(self) -> None:
        valid = [run_name(depth) for depth in self.horizons]
        for name in self.per_horizon:
            if name not in valid:
                raise ValueError(f"per_horizon: {name!r} is not one of {', '.join(valid)}")


class ClosedForm(NamedTuple):
    """KL (nats) and N -> Cov_N of an ideal model on the mixture."""

    kl: float
    cov: dict[float, float]


class GivenClass(NamedTuple):
    """KL (nats) and Cov_N at N = `PAPER_N` of the mixture, by pi_D given the class, and what independent
    guesses have."""

    kl: Float[np.ndarray, "seeds checkpoints"]
    cov: Float[np.ndarray, "seeds checkpoints"]
    guesses: ClosedForm


@dataclasses.dataclass(frozen=True)
class Horizon:
    """One horizon's run; arrays over a run are (seeds, checkpoints), KL in nats.

    Attributes:
        depth: the horizon H, the number of intermediate layers.
        steps: of the evaluations.
        kl: of the mixture, the classes weighted by their exact probabilities.
        cov: N -> Cov_N of the mixture.
        class_kl: class -> its KL.
        class_cov: class -> N -> its Cov_N.
        branching: the branching layers of the hard class.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation, <= 0 up to
            rounding.
        closed: name of an ideal model -> its closed form, see `closed_forms`.
        given_class: the same evaluations by pi_D given the class; None where the held-out set was drawn by
            an earlier version and cannot be drawn again.
    """

    depth: int
    steps: Int[np.ndarray, " checkpoints"]
    kl: Float[np.ndarray, "seeds checkpoints"]
    cov: dict[float, Float[np.ndarray, "seeds checkpoints"]]
    class_kl: dict[str, Float[np.ndarray, "seeds checkpoints"]]
    class_cov: dict[str, dict[float, Float[np.ndarray, "seeds checkpoints"]]]
    branching: Branching
    bound_excess: float
    closed: dict[str, ClosedForm]
    given_class: GivenClass | None = None

    @property
    def hard(self) -> str:
        """The hard class, "xor" or "parities"."""
        return hard_class(self.class_cov)

    @property
    def local_n(self) -> float:
        """The N of `LOCAL_FACTOR`."""
        return local_n(self.depth)

    def converged(
        self, values: Float[np.ndarray, "seeds checkpoints"], back: int = 0
    ) -> Float[np.ndarray, " seeds"]:
        """Mean over the evaluations of the last eighth of the steps, or `back` eighths before it."""
        return values[:, window(self.steps, back)].mean(axis=1)


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        n: the N of the claim.
        seeds: those that finished at every horizon; the rows of every array.
        left_out: one text for each seed that did not, at which horizon.
        horizons: in increasing order.
    """

    n: float
    seeds: tuple[int, ...]
    left_out: tuple[str, ...]
    horizons: tuple[Horizon, ...]

    @property
    def hard(self) -> str:
        """The hard class of every horizon."""
        return self.horizons[0].hard

    @property
    def depths(self) -> tuple[int, ...]:
        """The horizons H."""
        return tuple(result.depth for result in self.horizons)

    def converged_kl(self) -> Float[np.ndarray, "seeds horizons"]:
        """Converged KL in nats."""
        return np.stack([result.converged(result.kl) for result in self.horizons], axis=1)

    def converged_cov(self) -> Float[np.ndarray, "seeds horizons"]:
        """Converged Cov_N."""
        return np.stack([result.converged(result.cov[self.n]) for result in self.horizons], axis=1)

    def converged_ratio(self) -> Float[np.ndarray, "seeds horizons"]:
        """Converged KL over converged Cov_N, in nats; +inf where Cov_N is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.converged_kl() / self.converged_cov()


def window(steps: Int[np.ndarray, " checkpoints"], back: int = 0) -> Bool[np.ndarray, " checkpoints"]:
    """Which evaluations lie in the last eighth of the training, or `back` eighths before it."""
    last = max(steps[-1], 1)
    return (steps > (1 - (back + 1) * TAIL) * last) & (steps <= (1 - back * TAIL) * last)


def local_n(depth: int) -> float:
    """LOCAL_FACTOR 2^(H/2)."""
    return float(LOCAL_FACTOR * 2 ** (depth // 2))


def closed_forms(
    class_probs: Mapping[str, float],
    depth: int,
    ns: Sequence[float],
    uniform_branching: int = 4,
    given_class: bool = False,
) -> dict[str, ClosedForm]:
    """KL and Cov_N of models that know everything but the hard rule, by name.

    "independent guesses" takes either node of every branching layer of the hard class with probability 1/2;
    "reads the path" guesses the first one and then stays with it, which class "xor" alone rewards: for class
    "parities", whose path says nothing of the layers to come, there is no such model. Both are exact on
    classes "chain" and "uniform", which they tell from the hard one by the number of branching layers,
    K = H/2 against 0 and `uniform_branching` (4 in the paper).

    With P the probability of the hard class, and unless K is equal to that number, KL is P K ln 2 and P ln 2,
    Cov_N is P for N up to 2^K and up to 2; so it is at every K by pi_D given the class (`given_class`). If K
    is equal to it, as at the paper's H = 8, the hard class and "uniform" share their prompts' law. Of these
    prompts' 2^K paths the one by the hard rule has pi_D = q + (1 - q)/2^K, with q = P/(P + P(uniform)), each
    other one (1 - q)/2^K; a guesser gives all of them 1/2^K, and the reader q/2 more to each of the two
    consistent ones than (1 - q)/2^K.

    Source: derived from the task of Coverage Principle, arXiv 2510.15020, Figure 2.
    """
    layers = depth // 2
    shared = layers == uniform_branching and not given_class
    hard = hard_class(class_probs)
    share = class_probs[hard] + (class_probs["uniform"] if shared else 0.0)
    q = class_probs[hard] / share
    paths, rest = 2**layers, (1 - q) / 2**layers
    right, other, wrong = 1, 1, paths - 2  # the right path, the consistent one opposed to it, all others
    data = {"right": (right, q + rest), "other": (other, rest), "wrong": (wrong, rest)}
    models = {"independent guesses": {"right": 1 / paths, "other": 1 / paths, "wrong": 1 / paths}}
    if hard == XOR:
        models["reads the path"] = {"right": q / 2 + rest, "other": q / 2 + rest, "wrong": rest}
    horizons = {}
    for name, model in models.items():
        mass = {kind: share * count * p for kind, (count, p) in data.items() if count * p > 0}
        ratio = {kind: math.log(data[kind][1] / model[kind]) for kind in mass}
        horizons[name] = ClosedForm(
            kl=sum(mass[kind] * ratio[kind] for kind in mass),
            cov={
                n: sum(mass[kind] for kind in mass if ratio[kind] >= math.log(n) - 1e-9)
                for n in map(float, ns)
            },
        )
    return horizons


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the runs, and derive the curves of each horizon.

    Seeds that diverged at one horizon are left out of all, so that every seed has a value at every horizon.

    Raises:
        ValueError: fewer than two seeds finished at all horizons, or a run that cannot be read.
    """
    runs = {depth: study.runs[run_name(depth)] for depth in settings.horizons}
    matrices = {depth: run_matrices(run.path) for depth, run in runs.items()}
    seeds = tuple(sorted(set.intersection(*(set(matrix.seeds) for matrix in matrices.values()))))
    left_out = tuple(
        f"seed {seed} at H = {depth}" for depth, matrix in matrices.items() for seed in matrix.diverged
    )
    require_finished(seeds, left_out, "finished at all horizons")
    horizons = []
    for depth, run in runs.items():
        branching = measure_branching(run, seeds, settings.branching_examples, settings.branching_checkpoints)
        task, ns = run.setup.phases[-1].task, run.setup.evaluation[-1].coverage_ns
        if not isinstance(task, LayeredGraph):
            raise ValueError(f"task: {type(task).__name__}; figure2 needs LayeredGraph")
        excess = bound_excess(run)
        own = horizon(depth, task, matrices[depth], seeds, settings.n, ns, branching, excess)
        given = given_class(task, run.setup.evaluation[-1], matrices[depth].of_seeds(seeds))
        horizons.append(dataclasses.replace(own, given_class=given))
    return Measurements(settings.n, seeds, left_out, tuple(horizons))


def horizon(
    depth: int,
    task: LayeredGraph,
    matrices: RunMatrices,
    seeds: Sequence[int],
    n: float,
    ns: Sequence[float],
    branching: Branching,
    excess: float,
) -> Horizon:
    """One horizon's curves from its per-example log-probabilities."""
    ratio = log_density_ratio(matrices.log_pi, matrices.of_seeds(seeds).log_probs)
    wanted = tuple(sorted({float(n), local_n(depth), *map(float, ns)}))

    def profile(weights: np.ndarray) -> dict[float, Any]:
        return {m: coverage_profile(ratio, (m,), weights)[..., 0] for m in wanted}

    of_class = {name: matrices.weights * (matrices.groups == group) for group, name in enumerate(task.groups)}
    return Horizon(
        depth=depth,
        steps=np.asarray(matrices.steps),
        kl=kl(ratio, matrices.weights),
        cov=profile(matrices.weights),
        class_kl={name: kl(ratio, weights) for name, weights in of_class.items()},
        class_cov={name: profile(weights) for name, weights in of_class.items()},
        branching=branching,
        bound_excess=max(excess, check_coverage_bound(ratio, wanted, matrices.weights)),
        closed=_closed_forms_of(task, wanted, task.given == "class"),
    )


def given_class(
    task: LayeredGraph, evaluation: EvaluationSettings, matrices: RunMatrices
) -> GivenClass | None:
    """Score a run's evaluations by pi_c(y|x) of each example's class c in the place of pi_D(y|x).

    The held-out set is drawn again with `given="class"`: the same prompts and responses. Where all responses
    are enumerated, each has the weight pi_c(y|x).
    """
    held_out = evaluation.held_out(task)
    of_class = evaluation.held_out(dataclasses.replace(task, given="class"))
    kept = held_out.weights[:, None] * held_out.candidate_weight > 0
    same = kept.sum() == matrices.log_pi.size and np.allclose(
        held_out.log_pi[kept], matrices.log_pi, atol=1e-5
    )
    if not same:
        return None
    weights = matrices.weights * of_class.candidate_weight[kept] / held_out.candidate_weight[kept]
    possible = weights > 0
    ratio = log_density_ratio(of_class.log_pi[kept][possible], matrices.log_probs[..., possible])
    weights = weights[possible] / weights[possible].sum()
    closed = _closed_forms_of(task, (PAPER_N,), given_class=True)["independent guesses"]
    return GivenClass(kl(ratio, weights), coverage_profile(ratio, (PAPER_N,), weights)[..., 0], closed)


def _closed_forms_of(task: LayeredGraph, ns: Sequence[float], given_class: bool) -> dict[str, ClosedForm]:
    probs = dict(zip(task.groups, task.group_probs, strict=True))
    return closed_forms(probs, task.depth, ns, task.uniform_branching, given_class)
