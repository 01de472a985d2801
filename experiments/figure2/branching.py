"""Models in the branching layers of the hard class: they know the hard rule, guess, or read the path.

In each branching layer pi_D follows the layer's parity if a bit b(x) is 0 and opposes it if it is 1. In class
"xor" one bit decides all layers, so that the construction leaks: after the first branching layer the path
itself shows b. In class "parities" each layer has a bit of its own, and the path shows nothing of those to
come. A model that guesses every layer on its own pays ln 2 in each; one that reads the path of class "xor"
pays ln 2 in the first alone; one that has learned the rule pays nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from covlab.claims.trained import score_checkpoints
from covlab.launch.trained import TrainedRun
from metrics import Interval, auc_interval
from metrics.evaluators import Batch, Evaluator, HeldOut
from models import Model, Params
from tasks import Task

XOR, PARITIES = "xor", "parities"
"""The two hard classes: one bit for all branching layers, or a bit of its own for each."""


def hard_class(groups: Iterable[str]) -> str:
    """The hard class of a mixture: the one of `XOR` and `PARITIES` that it has.

    Raises:
        ValueError: none, or both.
    """
    found = [name for name in groups if name in (XOR, PARITIES)]
    if len(found) != 1:
        raise ValueError(f"task.mixture: {', '.join(groups)}; figure2 needs one of xor and parities")
    return found[0]


class BranchScores(NamedTuple):
    """One model on prompts with K branching layers each, in the order of the path; nats.

    Attributes:
        loss: -ln pi_hat(right node | x, path so far).
        choice_loss: the same given that one of the two passable nodes is taken: the part of the loss that the
            hard rule could save. What is left is the local rule's.
        log_odds: ln pi_hat(node with the layer's parity) - ln pi_hat(the other passable node).
        opposes: whether the path opposes the parity of the first branching layer, b(x) = 1.
    """

    loss: Float[np.ndarray, "prompts layers"]
    choice_loss: Float[np.ndarray, "prompts layers"]
    log_odds: Float[np.ndarray, "prompts layers"]
    opposes: Bool[np.ndarray, " prompts"]


@dataclasses.dataclass(frozen=True)
class Branching:
    """Scores of all seeds of a run in the branching layers, on one set of fresh prompts.

    Attributes:
        steps: of the checkpoints.
        loss, choice_loss: means over the prompts, as in `BranchScores`.
        auc: for each seed at the last checkpoint, P[the first layer's log-odds of a prompt with b = 0 exceed
            those of one with b = 1]: 1/2 if the model knows nothing of the bit.
        log_odds: the first seed's first-layer log-odds at the last checkpoint, by the bit.
    """

    steps: tuple[int, ...]
    loss: Float[np.ndarray, "seeds checkpoints layers"]
    choice_loss: Float[np.ndarray, "seeds checkpoints layers"]
    auc: tuple[Interval, ...]
    log_odds: dict[str, np.ndarray]

    @property
    def leaked(self) -> Float[np.ndarray, "seeds checkpoints"]:
        """Share of what the path could save that the model saves: sum_{k>=2} (ln 2 - choice loss_k) over
        (K - 1) ln 2.

        0 for independent guesses and 1 for a model that reads the bit off the path; negative where its
        guesses are worse than fair ones. NaN for a single branching layer: there is nothing to read.
        """
        later = self.choice_loss[..., 1:]
        if not later.shape[-1]:
            return np.full(self.choice_loss.shape[:-1], np.nan)
        return 1 - later.mean(axis=-1) / np.log(2)


@dataclasses.dataclass(frozen=True)
class BranchEvaluator(Evaluator):
    """ln pi_hat of the two passable nodes of each layer, after the right path so far.

    Names: `loss/<k>` and `choice_loss/<k>`, the means over the held-out set's prompts in the k-th branching
    layer. All prompts must have the same number of branching layers.
    """

    name: str = dataclasses.field(default="branching", init=False)

    def score(self, model: Model, task: Task, params: Params, batch: Batch) -> dict[str, Array]:
        """`log_prob`, (batch, depth, 2): of the even and the odd passable node; -inf where there is none."""
        example = batch.example
        logits = model.logits(params, example.prompt, example.prompt_mask, example.response[:, None])
        nodes = example.latent.passable
        log_prob = jax.nn.log_softmax(logits[:, 0, 1:-1], axis=-1)
        log_prob_of_nodes = jnp.take_along_axis(log_prob, jnp.maximum(nodes, 0), axis=-1)
        return {"log_prob": jnp.where(nodes >= 0, log_prob_of_nodes, -jnp.inf)}

    def reduce(self, scores: dict[str, np.ndarray], held_out: HeldOut) -> Iterator[tuple[str, float]]:
        """Means over the prompts, layer by layer."""
        branches = branch_scores(scores["log_prob"], *paths(held_out))
        for name in ("loss", "choice_loss"):
            for k, value in enumerate(getattr(branches, name).mean(axis=0).tolist(), start=1):
                yield f"{name}/{k}", value


def branch_scores(
    log_prob: Float[np.ndarray, "prompts depth 2"],
    passable: Int[np.ndarray, "prompts depth 2"],
    response: Int[np.ndarray, "prompts response"],
) -> BranchScores:
    """From the log-probabilities of the even and odd passable nodes to what the branching layers show.

    Args:
        log_prob: ln pi_hat(node | x, right path so far); ignored in layers that do not branch.
        passable: even and odd passable node of each intermediate layer, -1 where there is none.
        response: the path, source and target included.

    Raises:
        ValueError: prompts that differ in their number of branching layers, or have none.
    """
    branching = np.all(passable >= 0, axis=-1)
    counts = np.unique(branching.sum(axis=1))
    if counts.size != 1 or counts[0] == 0:
        raise ValueError(f"passable: {counts.tolist()} branching layers a prompt; valid: one positive number")
    prompts, depth = branching.shape
    shape = (prompts, int(counts[0]))
    right_is_odd = (response[:, 1:-1] % 2 == 1)[branching].reshape(shape)
    # The intermediate layers are numbered from 2, so that layer l of the array has parity l mod 2.
    layer_is_odd = np.broadcast_to(np.arange(depth) % 2 == 1, branching.shape)[branching].reshape(shape)
    even, odd = np.moveaxis(np.asarray(log_prob, np.float64)[branching].reshape(*shape, 2), -1, 0)
    right, other = np.where(right_is_odd, odd, even), np.where(right_is_odd, even, odd)
    return BranchScores(
        loss=-right,
        choice_loss=np.logaddexp(right, other) - right,
        log_odds=np.where(layer_is_odd, odd - even, even - odd),
        opposes=(right_is_odd != layer_is_odd)[:, 0],
    )


def paths(
    held_out: HeldOut,
) -> tuple[Int[np.ndarray, "prompts depth 2"], Int[np.ndarray, "prompts response"]]:
    """Passable nodes and right paths of a held-out set, as `branch_scores` takes them."""
    example = held_out.batches.example
    passable, response = held_out.flat((example.latent.passable, example.response))
    return passable, response


def only_class(held_out: HeldOut, name: str) -> HeldOut:
    """The examples of one class, in batches of the same size.

    Raises:
        ValueError: the task has no such class.
    """
    if name not in held_out.task.groups:
        raise ValueError(f"task.mixture: no class {name!r}; valid: {', '.join(held_out.task.groups)}")
    kept = np.flatnonzero(held_out.groups == held_out.task.groups.index(name))
    size = min(held_out.batches.position.shape[1], kept.size)
    index = np.resize(kept, (-(-kept.size // size), size))
    return dataclasses.replace(
        held_out,
        batches=jax.device_put(jax.tree.map(lambda a: a[index], held_out.flat(held_out.batches))),
        num_examples=kept.size,
        groups=held_out.groups[kept],
        log_pi=held_out.log_pi[kept],
        candidate_weight=held_out.candidate_weight[kept],
        correct=held_out.correct[kept],
    )


def measure_branching(
    run: TrainedRun, seeds: Sequence[int], num_examples: int, num_checkpoints: int
) -> Branching:
    """Score saved checkpoints of a run on `num_examples` fresh prompts of the hard class.

    The prompts come from the stream (evaluation.seed, "evaluation", "branching", class). Of the saved
    checkpoints, `num_checkpoints` evenly spaced ones are taken, the last among them.

    Raises:
        ValueError: the run saved no parameters.
    """
    evaluation = dataclasses.replace(run.setup.evaluation[-1], num_examples=num_examples)
    task = run.setup.phases[-1].task
    held_out = only_class(evaluation.held_out(task, "branching"), hard_class(task.groups))
    steps, scores = score_checkpoints(run, seeds, BranchEvaluator(), held_out, num_checkpoints)
    where, count = paths(held_out), held_out.num_examples
    branches = [
        [branch_scores(of_seed["log_prob"][:count], *where) for of_seed in at_step] for at_step in scores
    ]
    last = branches[-1][0]
    return Branching(
        steps=steps,
        loss=_means(branches, "loss"),
        choice_loss=_means(branches, "choice_loss"),
        auc=tuple(bit_auc(choice) for choice in branches[-1]),
        log_odds={f"b = {bit}": last.log_odds[last.opposes == bool(bit), 0] for bit in (0, 1)},
    )


def bit_auc(scores: BranchScores) -> Interval:
    """AUC of the first branching layer's log-odds between the prompts with b = 0 and those with b = 1."""
    first = scores.log_odds[:, 0]
    return auc_interval(first[~scores.opposes], first[scores.opposes])


def _means(found: Sequence[Sequence[BranchScores]], field: str) -> Any:
    """(seeds, checkpoints, layers) from (checkpoints, seeds) of scores."""
    table = [[getattr(scores, field).mean(axis=0) for scores in checkpoint] for checkpoint in found]
    return np.swapaxes(np.asarray(table), 0, 1)
