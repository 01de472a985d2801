"""Exact laws of VGB and of action-level rejection sampling on enumerated trees, by the quality of the values.

A tree of horizon H and A tokens is stored by levels; child a of node i at depth h is node A i + a at depth
h + 1. `reference[h]` is pi_ref(a | node), (A^h, A); `values[h]` is V^(node) at depth h, tau at leaves;
`values[0]` is never used.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from covlab.launch.base_model import fitted, of_seed, seed_rows
from covlab.launch.trained import TrainedRun
from models import Model, Params
from tasks import Example, FixedDyck, stream
from tasks.checks import real, whole

ABSORBED = 1e-6
"""First-leaf laws are computed until all but so much mass is at a leaf."""
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
        rmse: (seeds, steps) root mean squared error of the learned values to the exact ones under pi_ref.
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
    examples = tree_prompts(settings, task, evaluation_seed)
    leaves = all_leaves(task.response_tokens, settings.horizon)
    judge = jax.vmap(jax.vmap(task.reward, (None, 0)), (0, None))
    tau = np.asarray(judge(examples.latent, jnp.asarray(leaves)), np.float64)
    phase, step = base.checkpoints(["last"])[-1]
    conditionals = _by_seed(base, phase, step, seeds, task, examples, leaves)
    saved = [item for item in value.checkpoints(["all"]) if item[1] > 0]
    learned = {step: _by_seed(value, phase, step, seeds, task, examples, leaves) for phase, step in saved}
    shape = (len(seeds), len(tau))
    by_step = {law: np.zeros((*shape, len(saved))) for law in LAWS}
    by_error = {law: np.zeros((*shape, len(settings.errors))) for law in LAWS}
    squared = np.zeros((*shape, len(saved)))
    for i, seed in enumerate(seeds):
        if show:
            print(f"vgb_dyck: exact laws of seed {seed}", file=sys.stderr, flush=True)
        for j, time in enumerate(tau):
            reference = by_node(softmax(conditionals[i][j]))
            exact = exact_values(Tree(reference, [time]))
            for k, (_, step) in enumerate(saved):
                values = [level.reshape(-1) for level in by_node(sigmoid(learned[step][i][j]))]
                tree = Tree(reference, [exact[0], *values[:-1], time])
                squared[i, j, k] = squared_error(tree, exact)
                _put_errors(tree, settings.steps, by_step, (i, j, k))
            for k, error in enumerate(settings.errors):
                rng = np.random.default_rng([evaluation_seed, seed, j, k])
                tree = Tree(reference, corrupt(exact, error, rng))
                _put_errors(tree, settings.steps, by_error, (i, j, k))
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


def all_leaves(tokens: Sequence[int], horizon: int) -> np.ndarray:
    """Every response, in the order of the tree's leaves."""
    grid = np.meshgrid(*[np.asarray(tokens, np.int32)] * horizon, indexing="ij")
    return np.stack(grid, axis=-1).reshape(-1, horizon)


def _by_seed(
    run: TrainedRun,
    phase: str,
    step: int,
    seeds: Sequence[int],
    task: FixedDyck,
    examples: Example,
    leaves: Any,
) -> list[Float[np.ndarray, "prompts leaves horizon tokens"]]:
    """The network's logits of the response tokens along every path to a leaf, a seed at a time."""
    model, params = fitted(run.setup.model, task, str(run.path)), run.parameters(phase, step)
    tokens = list(task.response_tokens)
    laws = []
    for row in seed_rows(run, seeds):
        seed_params = of_seed(params, row)
        logits = [
            np.asarray(_logits(model, seed_params, prompt, mask, leaves))[..., tokens]
            for prompt, mask in zip(examples.prompt, examples.prompt_mask, strict=True)
        ]
        laws.append(np.stack(logits).astype(np.float64))
    return laws


@functools.partial(jax.jit, static_argnames="model")
def _logits(model: Model, params: Params, prompt: Any, mask: Any, leaves: Any) -> Any:
    return model.logits(params, prompt[None], mask[None], leaves[None])[0]


def softmax(logits: Float[np.ndarray, "*shape tokens"]) -> Float[np.ndarray, "*shape tokens"]:
    """exp normalised over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def sigmoid(logits: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """1 / (1 + e^-x)."""
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)))


def by_node(
    along_paths: Float[np.ndarray, "leaves horizon tokens"],
) -> list[Float[np.ndarray, "nodes tokens"]]:
    """For every depth, the numbers of each node's children, out of those along every path to a leaf."""
    leaves, horizon, size = along_paths.shape
    return [along_paths[:: leaves // size**depth, depth] for depth in range(horizon)]


def corrupt(
    values: Sequence[Float[np.ndarray, " nodes"]], error: float, rng: np.random.Generator
) -> list[Float[np.ndarray, " nodes"]]:
    """Each inner node's value times 1 + error or 1/(1 + error), with probability 1/2 each; leaves keep
    theirs."""
    perturbed = [value * (1 + error) ** rng.choice((-1.0, 1.0), value.shape) for value in values[:-1]]
    return [*perturbed, values[-1]]


def squared_error(tree: Tree, exact: Sequence[Float[np.ndarray, " nodes"]]) -> float:
    """E (V^ - V)^2 over y ~ pi_ref and the inner depths 1..H-1."""
    mass, errors = np.ones(1), []
    for depth, conditional in enumerate(tree.reference[:-1], start=1):
        mass = (mass[:, None] * conditional).reshape(-1)
        errors.append(float(mass @ np.square(tree.values[depth] - exact[depth])))
    return float(np.mean(errors))


def _put_errors(tree: Tree, steps: int, into: Mapping[str, np.ndarray], where: tuple[int, int, int]) -> None:
    target = target_law(tree)
    into[ACTION][where] = total_variation(action_rejection_law(tree), target)
    into[FIRST][where] = total_variation(vgb_first_leaf_law(tree), target)
    into[FIXED][where] = total_variation(vgb_law(tree, steps), target)


class Tree(NamedTuple):
    """A base model and values on a whole tree."""

    reference: Sequence[Float[np.ndarray, "nodes tokens"]]
    values: Sequence[Float[np.ndarray, " nodes"]]

    @property
    def horizon(self) -> int:
        """H."""
        return len(self.reference)


def reference_law(tree: Tree) -> Float[np.ndarray, " leaves"]:
    """pi_ref(y|x) of every leaf."""
    mass = np.ones(1)
    for conditional in tree.reference:
        mass = (mass[:, None] * conditional).reshape(-1)
    return mass


def target_law(tree: Tree) -> Float[np.ndarray, " leaves"]:
    """pi*(y|x) = pi_ref(y|x) tau(x, y) / E_ref[tau]."""
    weight = reference_law(tree) * tree.values[-1]
    return weight / weight.sum()


def exact_values(tree: Tree) -> list[Float[np.ndarray, " nodes"]]:
    """V(node) = E_ref[tau | node] at every depth, from the leaves up."""
    levels = [tree.values[-1]]
    for conditional in reversed(tree.reference):
        levels.insert(0, np.sum(conditional * levels[0].reshape(conditional.shape), axis=1))
    return levels


def action_rejection_law(tree: Tree) -> Float[np.ndarray, " leaves"]:
    """Law of action-level rejection sampling, given that it does not get stuck: at every node child a with
    probability prop. to pi_ref(a) V^(child a)."""
    mass = np.ones(1)
    for conditional, below in zip(tree.reference, tree.values[1:], strict=True):
        weight = conditional * below.reshape(conditional.shape)
        total = weight.sum(axis=1, keepdims=True)
        chance = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
        mass = (mass[:, None] * chance).reshape(-1)
    return mass / mass.sum()


def vgb_law(tree: Tree, steps: int) -> Float[np.ndarray, " leaves"]:
    """Law of the node that VGB's lazy walk is at after `steps` steps from the root, given that it is a leaf
    (arXiv 2510.03149, algorithm 1)."""
    walk = _Walk(tree)
    mass = walk.start()
    for _ in range(steps):
        moved = walk.move(mass)
        mass = [(old + new) / 2 for old, new in zip(mass, moved, strict=True)]
    return mass[-1] / mass[-1].sum()


def vgb_first_leaf_law(tree: Tree, limit: int = 20_000) -> Float[np.ndarray, " leaves"]:
    """Law of the first leaf that VGB's walk reaches, of those that have reached one after `limit` moves."""
    walk = _Walk(tree)
    mass, absorbed = walk.start(), np.zeros_like(tree.values[-1])
    for _ in range(limit):
        mass = walk.move(mass)
        absorbed += mass[-1]
        mass[-1] = np.zeros_like(absorbed)
        if sum(level.sum() for level in mass) < ABSORBED:
            break
    return absorbed / absorbed.sum()


def total_variation(p: Float[np.ndarray, " leaves"], q: Float[np.ndarray, " leaves"]) -> float:
    """Half the l1 distance."""
    return float(np.abs(p - q).sum() / 2)


class _Walk:
    """Moves of VGB's walk, without laziness: from a node to its parent with weight V^(node), to child a with
    weight pi_ref(a) V^(child a), normalised. A node all of whose weights are 0 is left alone."""

    def __init__(self, tree: Tree) -> None:
        self._down, self._up = [], []
        for depth in range(tree.horizon + 1):
            back = tree.values[depth] if depth else np.zeros(1)
            if depth < tree.horizon:
                conditional = tree.reference[depth]
                down = conditional * tree.values[depth + 1].reshape(conditional.shape)
            else:
                down = np.zeros((len(back), 0))
            total = back + down.sum(axis=1)
            scale = np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)
            self._down.append(down * scale[:, None])
            self._up.append(back * scale)

    def start(self) -> list[Float[np.ndarray, " nodes"]]:
        """All mass at the root."""
        return [np.ones(1)] + [np.zeros(len(up)) for up in self._up[1:]]

    def move(self, mass: Sequence[Float[np.ndarray, " nodes"]]) -> list[Float[np.ndarray, " nodes"]]:
        """One move of all mass."""
        new = [np.zeros_like(level) for level in mass]
        for depth, level in enumerate(mass):
            down, up = self._down[depth], self._up[depth]
            if depth:
                new[depth - 1] += (level * up).reshape(len(mass[depth - 1]), -1).sum(axis=1)
            if depth + 1 < len(mass):
                new[depth + 1] += (level[:, None] * down).reshape(-1)
            stays = (up + down.sum(axis=1)) == 0
            new[depth] += np.where(stays, level, 0.0)
        return new
