"""Exact laws of VGB and action-level rejection sampling on enumerated trees, by the quality of the values."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from covlab.launch.base_model import fitted, of_seed, seed_rows
from covlab.launch.trained import TrainedRun
from decoding import ModelPolicy, ModelValues, Problem, problem_of
from decoding.exact import (
    Law,
    Levels,
    Tree,
    action_level_law,
    chain_law,
    enumerate_tree,
    first_leaf_law,
    target_law,
    total_variation,
)
from tasks import Example, FixedDyck, stream
from tasks.checks import real, whole
from theory.vgb.average_case import exact_values

ACTION, FIRST, FIXED = "action-level rejection", "VGB, first leaf", "VGB, fixed steps"
LAWS = (ACTION, FIRST, FIXED)
_DRAWN = 256
"""Prefixes among which those with enough completions are looked for."""


@dataclasses.dataclass(frozen=True)
class TreeSettings:
    """The trees.

    Attributes:
        horizon: tokens that are left to a prompt: 4^horizon leaves with two types of brackets.
        num_prompts: prompts, prefixes of strings of pi_D.
        completions: least number of correct responses of a prompt.
        errors: sizes eps of the multiplicative error of the exact values, each node's factor 1 + eps or
            1/(1 + eps) at random.
        steps: of VGB with a fixed number of them, lazy ones included.
    """

    horizon: int = 6
    num_prompts: int = 4
    completions: int = 10
    errors: Sequence[float] = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
    steps: int = 1000

    def __post_init__(self) -> None:
        for field, low in (("horizon", 2), ("num_prompts", 1), ("completions", 1), ("steps", 1)):
            whole(f"trees.{field}", getattr(self, field), low)
        errors = tuple(real("trees.errors", error, least=0) for error in self.errors)
        object.__setattr__(self, "errors", errors)
        if len(self.errors) < 2 or list(self.errors) != sorted(set(self.errors)):
            raise ValueError(f"trees.errors: {list(self.errors)}; valid: at least 2 ascending numbers >= 0")


@dataclasses.dataclass(frozen=True)
class Trees:
    """Total variation to pi*, mean over the prompts: law -> (seeds, qualities).

    Attributes:
        settings: of the trees.
        steps: training steps of the value function's saved checkpoints.
        learned: by these steps.
        corrupted: by `settings.errors`.
        rmse: root mean squared error of the learned values, over inner nodes under pi_ref.
    """

    settings: TreeSettings
    steps: tuple[int, ...]
    learned: Mapping[str, Float[np.ndarray, "seeds steps"]]
    corrupted: Mapping[str, Float[np.ndarray, "seeds errors"]]
    rmse: Float[np.ndarray, "seeds steps"]


def measure_trees(
    settings: TreeSettings,
    base: TrainedRun,
    value: TrainedRun,
    seeds: Sequence[int],
    evaluation_seed: int,
    show: bool = True,
) -> Trees:
    """Exact laws for every prompt, seed and quality of the values.

    Raises:
        ValueError: too few prompts with so many completions, or checkpoints that are gone.
    """
    task = tree_task(base, settings.horizon)
    problem = problem_of(task, tree_prompts(settings, task, evaluation_seed))
    model, guide = (fitted(run.setup.model, task, str(run.path)) for run in (base, value))
    params = base.parameters(*base.checkpoints(["last"])[-1])
    saved = [item for item in value.checkpoints(["all"]) if item[1] > 0]
    value_params = [value.parameters(phase, step) for phase, step in saved]
    shape = (len(seeds), settings.num_prompts)
    by_step = {law: np.zeros((*shape, len(saved))) for law in LAWS}
    by_error = {law: np.zeros((*shape, len(settings.errors))) for law in LAWS}
    squared = np.zeros((*shape, len(saved)))
    rows = zip(seed_rows(base, seeds), seed_rows(value, seeds), strict=True)
    for i, (row, value_row) in enumerate(rows):
        if show:
            print(f"vgb_dyck: exact laws of seed {seeds[i]}", file=sys.stderr, flush=True)
        policy = ModelPolicy(model, of_seed(params, row), task.response_tokens)
        for j in range(settings.num_prompts):
            one: Problem = jax.tree.map(lambda leaf, j=j: leaf[j : j + 1], problem)
            trees = [
                enumerate_tree(task, policy, ModelValues(guide, of_seed(learned, value_row)), one)
                for learned in value_params
            ]
            # The trees have the same base model and leaves, which exact values depend on alone.
            reference, exact = trees[0].reference, exact_values(trees[0])
            for k, tree in enumerate(trees):
                squared[i, j, k] = squared_error(tree, exact)
                _put_errors(tree, settings.steps, by_step, (i, j, k))
            for k, error in enumerate(settings.errors):
                rng = np.random.default_rng([evaluation_seed, seeds[i], j, k])
                disturbed = Tree(reference, corrupt(exact, error, rng))
                _put_errors(disturbed, settings.steps, by_error, (i, j, k))
    return Trees(
        settings,
        tuple(step for _, step in saved),
        {law: laws.mean(axis=1) for law, laws in by_step.items()},
        {law: laws.mean(axis=1) for law, laws in by_error.items()},
        np.sqrt(squared.mean(axis=1)),
    )


def tree_task(run: TrainedRun, horizon: int) -> FixedDyck:
    """The run's task with prompts that leave `horizon` tokens."""
    task = run.setup.phases[-1].task
    assert isinstance(task, FixedDyck)
    length = task.length - horizon
    return dataclasses.replace(
        task, mixture=(("drawn", 1.0),), prefix="", prefix_lengths=(length, length), max_enumerated=0
    )


def tree_prompts(settings: TreeSettings, task: FixedDyck, seed: int) -> Example:
    """The first prompts of the stream (seed, "evaluation", "trees") with enough completions.

    Raises:
        ValueError: too few of them.
    """

    @jax.jit
    def draw() -> tuple[Example, jax.Array]:
        examples = jax.vmap(task.sample)(jax.random.split(stream(seed, "evaluation", "trees"), _DRAWN))
        count = jax.vmap(task.log_num_completions, (0, 0, None))
        empty = jnp.zeros_like(examples.response)
        return examples, count(examples.latent, empty, jnp.asarray(0))

    examples, counts = jax.tree.map(np.asarray, draw())
    indices = np.flatnonzero(np.exp(counts) > settings.completions - 0.5)[: settings.num_prompts]
    if len(indices) < settings.num_prompts:
        raise ValueError(
            f"trees.completions: {len(indices)} of {_DRAWN} prompts have {settings.completions} or more; "
            f"valid: a number that {settings.num_prompts} have"
        )
    chosen_examples: Example = jax.tree.map(lambda leaf: leaf[indices], examples)
    return chosen_examples


def corrupt(values: Levels, error: float, rng: np.random.Generator) -> Levels:
    """Each inner node's value times 1 + error or 1/(1 + error), with probability 1/2 each; leaves keep
    theirs."""
    perturbed = [value * (1 + error) ** rng.choice((-1.0, 1.0), value.shape) for value in values[:-1]]
    return (*perturbed, values[-1])


def squared_error(tree: Tree, exact: Levels) -> float:
    """E (V^ - V)^2 over y ~ pi_ref and the inner depths 1..H-1."""
    mass, errors = np.ones(1), []
    for depth, conditional in enumerate(tree.reference[:-1], start=1):
        mass = (mass[:, None] * conditional).ravel()
        errors.append(float(mass @ np.square(tree.values[depth] - exact[depth])))
    return float(np.mean(errors))


def errors_of(tree: Tree, steps: int) -> dict[str, float]:
    """Law -> total variation to pi*, each law given that a leaf is returned."""
    laws = {
        ACTION: action_level_law(tree),
        FIRST: first_leaf_law(tree),
        FIXED: chain_law(tree, steps)[-1],
    }
    target = target_law(tree)
    return {name: total_variation(given_a_leaf(law), target) for name, law in laws.items()}


def given_a_leaf(law: Law) -> Law:
    """`law` over its sum."""
    return np.asarray(law / law.sum())


def _put_errors(tree: Tree, steps: int, into: Mapping[str, np.ndarray], where: tuple[int, int, int]) -> None:
    for name, error in errors_of(tree, steps).items():
        into[name][where] = error
