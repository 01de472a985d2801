"""Bracket strings judged by a reward network that saw few labels: pools of responses, and rules on them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from covlab.claims.settings import Whole
from covlab.launch.base_model import fitted, of_seed, seed_rows
from covlab.launch.trained import TrainedRun
from decoding import base_responses
from experiments.pessimism.finite_sets import TabularSettings, from_one, true_rewards
from metrics.evaluators import make_held_out
from models import Model, Params
from tasks import Example, Task, numpy_stream, stream


@dataclasses.dataclass(frozen=True)
class PoolSettings:
    """Sizes of the measurement on bracket strings.

    Attributes:
        ns: numbers of responses N, the first of them 1.
        responses: drawn for each prompt, judged by each network.
        prompts: number of prompts.
        law_draws: samples that the law of pessimism is averaged over.
    """

    ns: Annotated[tuple[int, ...], from_one]
    responses: Annotated[int, Whole(2)]
    prompts: Annotated[int, Whole(1)]
    law_draws: Annotated[int, Whole(2)]

    def __post_init__(self) -> None:
        if self.ns[-1] > self.responses:
            raise ValueError(f"pools.ns: {self.ns[-1]} is more than pools.responses = {self.responses}")


class Pool(NamedTuple):
    """Responses of the base model to each prompt: what the reward network says of them, and the verifier."""

    estimate: Float[np.ndarray, "prompts responses"]
    reward: Float[np.ndarray, "prompts responses"]


@functools.partial(jax.jit, static_argnames=("task", "model", "size"))
def _judged(
    task: Task, model: Model, params: Params, examples: Example, keys: PRNGKeyArray, size: int
) -> tuple[Float[Array, "prompts responses"], Float[Array, "prompts responses"]]:
    responses, mask = base_responses(task, examples, keys, None, (), size)
    logits = model.logits(params, examples.prompt, examples.prompt_mask, responses)
    log_prob = jnp.take_along_axis(logits, responses[..., None], axis=-1)[..., 0]
    last = jnp.sum(mask, axis=-1, keepdims=True) - 1
    estimate = jax.nn.sigmoid(jnp.take_along_axis(log_prob, last, axis=-1)[..., 0])
    reward = jax.vmap(jax.vmap(task.reward, (None, 0)))(examples.latent, responses)
    return estimate, reward


def draw_pool(
    task: Task, model: Model, params: Params, prompts: int, size: int, seed: int, draws: int
) -> Pool:
    """`size` responses of the task's own base model to each of `prompts` prompts.

    `seed` names the prompts and `draws` the responses: another training seed gets other responses.
    """
    held_out = make_held_out(task, prompts, 1, seed, "pessimism")
    parts: list[tuple[Any, Any]] = []
    for index in range(len(jax.tree.leaves(held_out.batches)[0])):
        example = jax.tree.map(lambda leaf, index=index: leaf[index], held_out.batches.example)
        keys = stream(seed, "evaluation", "pessimism", "responses", draws, index)[None]
        parts.append(jax.tree.map(np.asarray, _judged(task, model, params, example, keys, size)))
    estimate, reward = (np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True))
    return Pool(estimate[:prompts], reward[:prompts])


@dataclasses.dataclass(frozen=True)
class Arm:
    """Bracket strings with one base model and reward networks of several seeds.

    Attributes:
        seeds: those that finished training.
        labels: rollouts that each network was trained on.
        coverage: C = 1/P[correct], of the policy that answers correctly as the base model does, by seed.
        error: eps, the root of E_ref[(r^ - r)^2], by seed.
        constant_error: that of a constant estimate, the mean reward, by seed.
        reward: rule -> (seeds, N) true rewards, means over the prompts.
    """

    seeds: tuple[int, ...]
    labels: int
    coverage: Float[np.ndarray, " seeds"]
    error: Float[np.ndarray, " seeds"]
    constant_error: Float[np.ndarray, " seeds"]
    reward: dict[str, Float[np.ndarray, "seeds n"]]


def measure_arm(
    run: TrainedRun,
    seeds: Sequence[int],
    settings: PoolSettings,
    tabular: TabularSettings,
    report: Callable[[], None],
) -> Arm:
    """Pools of responses judged by every seed's network, and the rules on them, with the multiples of beta of
    the finite sets.

    A pool stands for its prompt's law: the base model is uniform on it. beta of theory is eps/sqrt(C) with
    eps and C of all the prompts together, of this seed's pools: known here because the verifier judged them.
    """
    phase, step = run.checkpoints(["last"])[-1]
    task, last_phase = run.setup.phases[-1].task, run.setup.phases[-1]
    params, evaluation_seed = run.parameters(phase, step), run.setup.evaluation[-1].seed
    curves: list[dict[str, np.ndarray]] = []
    coverages, errors, constants = [], [], []
    reference = np.full(settings.responses, 1 / settings.responses)
    for seed, row in zip(seeds, seed_rows(run, seeds), strict=True):
        network = fitted(run.setup.model, task, "reward network")
        pool = draw_pool(
            task, network, of_seed(params, row), settings.prompts, settings.responses, evaluation_seed, seed
        )
        mean = float(pool.reward.mean())
        error = float(np.sqrt(np.mean((pool.estimate - pool.reward) ** 2)))
        betas = {multiple: multiple * error * math.sqrt(mean) for multiple in tabular.multiples}
        rng = numpy_stream(tabular.seed, "pessimism", "pools", seed)
        rows = [
            true_rewards(estimate, reward, reference, settings.ns, betas, 1.0, settings.law_draws, rng)
            for estimate, reward in zip(pool.estimate, pool.reward, strict=True)
        ]
        curves.append({name: np.mean([row_curves[name] for row_curves in rows], axis=0) for name in rows[0]})
        coverages.append(1 / mean)
        errors.append(error)
        constants.append(math.sqrt(mean * (1 - mean)))
        report()
    source: Any = last_phase.source
    return Arm(
        tuple(seeds),
        int(last_phase.dataset_size or last_phase.steps * last_phase.batch_size) * source.per_prompt,
        np.array(coverages),
        np.array(errors),
        np.array(constants),
        {name: np.stack([curve[name] for curve in curves]) for name in curves[0]},
    )
