"""Exact Pass@1, Pass@k, Cov_N, KL and coverage ratio of every start before and after every route, by seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float, Int

from covlab.claims.arms import check_rl_settings
from covlab.claims.claim import Study, require_seeds
from covlab.claims.matrices import RunMatrices, common_seeds, run_matrices
from covlab.claims.settings import Real, Whole, Wholes, mapping
from covlab.claims.trained import bound_excess
from metrics import Interval, name_of_n, pass_at_n
from metrics.coverage_ratio import coverage_ratio
from metrics.rank_correlation import rank_correlation_intervals
from tasks import numpy_stream

BASE = "base"
"""The run that all others start from."""
TUNE = "tuned"
"""Fine-tuning on pi_D's responses, after which reinforcement learning begins anew."""
RL, TUNED_RL, DISTIL = "rl", "tuned_rl", "distil"
"""The routes: reinforcement learning from the base, after fine-tuning, and on-policy distillation."""
ROUTES = {RL: "RL from the base", TUNED_RL: "fine-tuning, then RL", DISTIL: "on-policy distillation"}
COVERAGE, RATIO = "Cov_N", "rho_k"


def target_of(field: str, value: Any) -> dict[str, Any]:
    """Fields of the task that differ after pre-training.

    Raises:
        ValueError: not a mapping.
    """
    return dict(mapping(field, value))


@dataclasses.dataclass(frozen=True)
class Settings:
    """The claim's own settings; those of the base run are of experiments.train.

    Attributes:
        starts: steps of the base run, from 1 on, each of which is a start of every route.
        k: the k of Pass@k and of the coverage ratio.
        n: the N of the coverage that competes as a predictor.
        target: fields of the task that differ after pre-training.
        tune, rl: settings of experiments.train_rl of fine-tuning and of reinforcement learning.
        distil: what distillation has in place of `rl`.
    """

    starts: Annotated[tuple[int, ...], Wholes(1, at_least=3)]
    k: Annotated[int, Whole(2)]
    n: Annotated[float, Real(above=1, below=1e6)]
    target: Annotated[Mapping[str, Any], target_of]
    tune: Annotated[Mapping[str, Any], check_rl_settings]
    rl: Annotated[Mapping[str, Any], check_rl_settings]
    distil: Annotated[Mapping[str, Any], check_rl_settings]


def run_name(route: str, start: int) -> str:
    """The run of a route from a start."""
    return f"{route}_{start:06d}"


@dataclasses.dataclass(frozen=True)
class Route:
    """A route from every start, over its evaluations; the first is before the route's last run.

    Attributes:
        steps: steps of the evaluations.
        pass_1, pass_k: exact Pass@1 and Pass@k.
        coverage: Cov_N.
        kl: KL(pi_D || pi_hat) in nats.
    """

    steps: Int[np.ndarray, " checkpoints"]
    pass_1: Float[np.ndarray, "seeds starts checkpoints"]
    pass_k: Float[np.ndarray, "seeds starts checkpoints"]
    coverage: Float[np.ndarray, "seeds starts checkpoints"]
    kl: Float[np.ndarray, "seeds starts checkpoints"]

    @property
    def rise_1(self) -> Float[np.ndarray, "seeds starts"]:
        """Pass@1 after minus before."""
        return self.pass_1[..., -1] - self.pass_1[..., 0]

    @property
    def rise_k(self) -> Float[np.ndarray, "seeds starts"]:
        """Pass@k after minus before: expansion where positive."""
        return self.pass_k[..., -1] - self.pass_k[..., 0]


@dataclasses.dataclass(frozen=True)
class Measurements:
    """Everything that the checks, figures and tables are made of.

    Attributes:
        seeds: seeds that diverged in no run.
        starts: steps of the base run.
        shares: the starts, as shares of the base run's steps.
        k, n: see `Settings`.
        best: probability of the likeliest class, which a model that cannot tell the classes apart passes at
            most.
        routes: by name, in the order of `ROUTES`.
        lost, gained: Pass@k lost and gained by fine-tuning from each start, the sums of the coverage ratio
            over the number of held-out prompts.
        bound_excess: the largest violation of the coverage bound by KL at any evaluation.
    """

    seeds: tuple[int, ...]
    starts: tuple[int, ...]
    shares: tuple[float, ...]
    k: int
    n: float
    best: float
    routes: Mapping[str, Route]
    lost: Float[np.ndarray, "seeds starts"]
    gained: Float[np.ndarray, "seeds starts"]
    bound_excess: float

    def predictors(self, *names: str) -> dict[str, Float[np.ndarray, "seeds items"]]:
        """By name, a number of every start before the last run of these routes, turned so that higher should
        be better; with fine-tuning alone also the coverage ratio of fine-tuning."""
        own = [self.routes[name] for name in names]

        def before(values: Sequence[np.ndarray]) -> np.ndarray:
            return np.concatenate([each[..., 0] for each in values], axis=1)

        found = {
            "Pass@1": before([route.pass_1 for route in own]),
            f"Pass@{self.k}": before([route.pass_k for route in own]),
            f"Cov_{name_of_n(self.n)}": -before([route.coverage for route in own]),
            "KL": -before([route.kl for route in own]),
        }
        if names == (TUNED_RL,):
            found[f"rho_{self.k}"] = -ratio_ranks(self.lost, self.gained)
        return found

    def correlations(
        self, *names: str, gain: bool = False
    ) -> tuple[dict[str, Interval], dict[str, Interval]]:
        """By predictor, the mean over seeds of Spearman's correlation with Pass@1 after the routes' last run,
        or with its change, over all starts of these routes together; and by how much Cov_N's exceeds each
        other's."""
        predictors = self.predictors(*names)
        own = [self.routes[name] for name in names]
        outcome = np.concatenate([r.rise_1 if gain else r.pass_1[..., -1] for r in own], axis=1)
        order = list(predictors)
        place = order.index(f"Cov_{name_of_n(self.n)}")
        others = [i for i in range(len(order)) if i != place]
        rng = numpy_stream(0, "rl_from_base", "bootstrap", "+".join(names))
        each, differences = rank_correlation_intervals(
            np.stack(list(predictors.values())), outcome, tuple((place, i) for i in others), rng
        )
        return dict(zip(order, each, strict=True)), {
            order[i]: difference for i, difference in zip(others, differences, strict=True)
        }


def ratio_ranks(
    lost: Float[np.ndarray, "*shape"], gained: Float[np.ndarray, "*shape"]
) -> Float[np.ndarray, "*shape"]:
    """lost/(lost + gained) = rho/(1 + rho), which orders as rho_k does and is finite; 1/2, as for rho_k = 1,
    where nothing was lost or gained."""
    total = lost + gained
    return np.where(total > 0, lost / np.where(total > 0, total, 1.0), 0.5)


def route_of(matrices: Sequence[RunMatrices], k: int, n: float) -> Route:
    """Measurements of a route, from the runs of its starts.

    Raises:
        ValueError: a task that does not enumerate its valid responses.
    """
    found = [own.exact_passes("rl_from_base", (1, k)) for own in matrices]
    return Route(
        np.asarray(matrices[0].steps),
        np.stack([each[1] for each in found], axis=1),
        np.stack([each[k] for each in found], axis=1),
        np.stack([own.coverage((n,))[float(n)] for own in matrices], axis=1),
        np.stack([own.kl() for own in matrices], axis=1),
    )


def changes_of(
    matrices: RunMatrices, k: int
) -> tuple[Float[np.ndarray, " seeds"], Float[np.ndarray, " seeds"]]:
    """Pass@k lost and gained from the first evaluation to the last over the prompts that are undecided at the
    first, each prompt with its class's weight."""
    assert matrices.log_prob_correct is not None
    by_prompt = np.clip(pass_at_n(matrices.log_prob_correct, (k,))[..., 0], 0, 1)
    ratios = [coverage_ratio(own[0], own[-1], matrices.prompt_weights) for own in by_prompt]
    return np.array([ratio.lost for ratio in ratios]), np.array([ratio.gained for ratio in ratios])


def measure(settings: Settings, study: Study) -> Measurements:
    """Read the runs of all routes, for the seeds that diverged in none.

    Raises:
        ValueError: as `route_of`, or fewer than two such seeds.
    """
    runs = {name: run for name, run in study.runs.items() if name != BASE}
    seeds = common_seeds(run.path for run in runs.values())
    require_seeds("rl_from_base", seeds)
    matrices = {name: run_matrices(run.path).of_seeds(seeds) for name, run in runs.items()}
    routes = {
        route: route_of(
            [matrices[run_name(route, start)] for start in settings.starts], settings.k, settings.n
        )
        for route in ROUTES
    }
    changes = [changes_of(matrices[run_name(TUNE, start)], settings.k) for start in settings.starts]
    task: Any = runs[run_name(RL, settings.starts[0])].setup.phases[-1].task
    total = study.runs[BASE].setup.phases[-1].steps
    return Measurements(
        seeds,
        settings.starts,
        tuple(start / total for start in settings.starts),
        settings.k,
        settings.n,
        max(task.group_probs),
        routes,
        np.stack([lost for lost, _ in changes], axis=1),
        np.stack([gained for _, gained in changes], axis=1),
        max(map(bound_excess, runs.values())),
    )
