"""The device program of one phase: data, loss, update and evaluation, compiled together for all seeds.

One training step of a seed, from random key to update:

1. Keys: `tasks.stream` makes the random keys of the step from (seed, phase, step); no key is carried.
2. Prompts: `training.feed.batch_of_step` draws examples with `Task.sample`. They are fresh, or come from a
   fixed data set, whose example i is a function of (seed, phase, i).
3. Responses: `training.feed.responses_of_step` has the phase's `Source` answer the prompts; a source that is
   on policy draws from the present parameters. A source that judges adds rewards. For an objective that
   needs them, `training.distillation.enumerated_teacher` adds pi_D's next-token laws.
4. Old scores: `training.old_scores.old_scores` scores the responses under the parameters that drew them and
   under a reference model, each only where the objective needs it. For an objective that selects, the change
   of the loss since the reference decides which responses of the whole batch are kept.
5. Loss: `training.batch_loss.response_losses` turns the output of `Model.training_pass` into `Scores`, from
   which `Objective.losses` computes one loss per response, and adds the model's own. `mean_by_class` is their
   mean; `mean_by_weight` is the weighted mean, for an objective that weighs sequences.
6. Gradient: `training.step.mean_gradient`, or `weighted_gradient`, averages the gradients of the batch's
   parts. `Grid.mean_over_data`, or `weighted_mean_over_data`, averages over the devices that share a batch.
   The scores that the loss was computed from also give KL and coverage of pi_D's responses
   (`training.seen`).
7. Update: the optimizer, `Phase.rule`, turns the gradient into an update, which `optax.apply_updates` adds to
   the parameters. A seed whose loss or gradient is not finite keeps its old state from then on.

In `make_program`, `step` runs `training_batch` (stages 1 to 4) once and `update` (stages 5 to 7)
`Source.updates` times, or once per token of the responses for an objective that is `by_token`. `update` calls
`loss_and_gradient` (stages 5 and 6). `run_one` repeats `step`, `over_seeds` runs it for every seed of a
device, and `Grid.shard` on every device.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from metrics.evaluators import Batch, Evaluator, HeldOut
from models import Model, Params
from models.target import platform
from tasks import stream
from training.averaging import Averaged
from training.batch_loss import mean_by_class, mean_by_weight, response_losses
from training.feed import responses_of_step, share_of
from training.kept import Shelf, fetch, kept
from training.mesh import DATA, EVERYWHERE, PER_EXAMPLE, PER_SEED, SEED, Grid, Layout
from training.objectives import loss_change
from training.old_scores import OldScores, Rolled, old_scores
from training.phase import Phase
from training.precision import exact_products, trained, training_products
from training.seen import Seen, coverage_ns, seen_in
from training.sources import Policy, TrainingBatch
from training.step import mean_gradient, norm_of, parts_of_batch, weighted_gradient


class TrainState(NamedTuple):
    """State that a seed carries from step to step. It holds no random key: keys are functions of (seed,
    phase, step).

    Attributes:
        params: parameters in training.
        opt_state: state of the optimizer.
        failed_at: step, counted from 1, at which the loss or the gradient stopped being finite, or -1. From
            then on, parameters and optimizer state stay at their last good value.
        reference: parameters at the start of the phase, if its objective keeps near them, else ().
    """

    params: Params
    opt_state: Any
    failed_at: Int[Array, ""]
    reference: Params = ()

    @property
    def evaluated(self) -> Params:
        """Average of the phase's iterates if the phase averages them, else `params`."""
        return self.opt_state.average if isinstance(self.opt_state, Averaged) else self.params


class ChunkLog(NamedTuple):
    """Means over a chunk of steps and over the updates of each step.

    Attributes:
        loss, gradient_norm: those of the update.
        reward: mean reward of the batch; 0 without a judge.
        seen: KL and coverage of the batch; None if the source does not demonstrate.
    """

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    reward: Float[Array, ""]
    seen: Seen | None


@dataclasses.dataclass(frozen=True)
class Program:
    """Compiled functions of a phase. Arrays of a `TrainState` have a leading axis of seeds.

    If there are several processes, all must call the same functions in the same order.

    Attributes:
        init: seeds -> parameters.
        begin: parameters and the steps at which seeds have failed -> the state at the start of the phase.
        place: a state read from disk -> that state on the devices where `run` keeps it.
        run: the state after the steps from `start` to `stop`, and means over them; the old state is donated.
        evaluate: parameters, fixed parameters and batches -> per-example arrays of every evaluator.
        batches: makes the batches of the held-out set where `evaluate` takes them.
        prepare: number of seeds -> nothing; begins to load the functions in the background, and to compile
            `run` if it is not stored. Does nothing without a shelf.

    The last argument of `run` and of `score` holds the fixed parameters of the base model, with an axis of
    seeds. It is needed if the phase's source, its objective or an evaluator uses the base model.
    """

    init: Callable[[Int[Array, " seeds"]], Params]
    begin: Callable[[Params, Int[Array, " seeds"]], TrainState]
    place: Callable[[TrainState], TrainState]
    run: Callable[..., tuple[TrainState, ChunkLog]]
    evaluate: Callable[[Params, Params, Batch], dict[str, dict[str, Array]]]
    batches: Callable[[], Batch]
    prepare: Callable[[int], None] = lambda _: None

    def score(self, params: Params, fixed: Params = ()) -> dict[str, dict[str, Array]]:
        """`evaluate` on the held-out set, at least `num_examples` of its examples."""
        return self.evaluate(params, fixed, self.batches())


SCORED = PartitionSpec(SEED, DATA)
SeedBatching = Literal["auto", "vmap", "map"]


def over_seeds(function: Callable[..., Any], batching: SeedBatching, mapped: int) -> Callable[..., Any]:
    """`function` for all seeds of a device; the first `mapped` arguments have an axis of seeds.

    "vmap" computes the seeds together, "map" one after the other in the same program. "auto" is "map" on CPU,
    where the working set of one seed stays in the cache, and "vmap" elsewhere. There a single seed has no
    axis: a loop over one seed's own condition needs no selection between seeds.
    """
    if batching == "map" or (batching == "auto" and platform() == "cpu"):
        return lambda *args: jax.lax.map(lambda own: function(*own, *args[mapped:]), args[:mapped])
    if batching == "auto":
        return lambda *args: _together(function, args[:mapped], args[mapped:])
    return lambda *args: jax.vmap(lambda *own: function(*own, *args[mapped:]))(*args[:mapped])


def _together(function: Callable[..., Any], mapped: tuple[Any, ...], shared: tuple[Any, ...]) -> Any:
    if {leaf.shape[0] for leaf in jax.tree.leaves(mapped)} != {1}:
        return jax.vmap(lambda *own: function(*own, *shared))(*mapped)
    found = function(*jax.tree.map(lambda leaf: leaf[0], mapped), *shared)
    return jax.tree.map(lambda leaf: leaf[None], found)


def make_program(
    model: Model,
    phase: Phase,
    evaluators: tuple[Evaluator, ...],
    held_out: HeldOut | Callable[[], HeldOut],
    devices: int | Grid = 1,
    batching: SeedBatching = "auto",
    shelf: Shelf | None = None,
) -> Program:
    """Functions of a phase, compiled when they are first called.

    Functions are traced for the platform of `devices`, so that the programs of described devices can be
    compiled here, see `training.Grid`.

    `shard_map` gives every device its share of the seeds and of each batch. Seeds need no communication. The
    devices that share a batch average loss and gradient over equal shares, and so agree on the update and on
    whether the seed diverged. An evaluation is shared in whole batches of the held-out set. The number of
    steps of a chunk is a traced bound, so one compilation serves every interval between evaluations.

    Args:
        model: the model to train.
        phase: how to train it.
        evaluators, held_out: measurements, and the examples to make them on, or a function that gives them
            at the first evaluation.
        devices: the devices to use; a number n means n devices of this process, with the seeds spread over
            them.
        batching: how the seeds of one device are computed, see `over_seeds`.
        shelf: storage of the compiled functions for later processes; None keeps nothing.
    """
    grid = Grid(Layout(devices), local=True) if isinstance(devices, int) else devices
    parts = grid.layout.data
    tokens = phase.task.prompt_length + phase.source.samples * phase.task.response_length
    turns = 1 if model.sequential else parts_of_batch(phase.batch_size // parts, tokens, grid.platform)
    rule, source, ns = phase.rule, phase.source, coverage_ns(evaluators)
    tested, model = model.tested, trained(model, grid.platform, phase.precision)

    @jax.named_scope("data")
    def training_batch(state: TrainState, seed: Array, fixed: Params, index: Array) -> TrainingBatch:
        policy = Policy(model, state.params) if source.on_policy else None
        batch = responses_of_step(phase, seed, index, grid.part(), parts, fixed, policy)
        wanted = phase.objective.reference
        selects = phase.objective.selects
        drew = state.params if selects or (phase.objective.needs_policy and source.updates > 1) else None
        theirs = None if wanted == "none" else state.reference if source.model is None else fixed
        if drew is None and theirs is None:
            return batch
        rolled = Rolled(batch.prompt, batch.prompt_mask, batch.responses)
        old = old_scores(model, rolled, turns, drew, theirs, source.model, wanted == "distributions")
        return batch._replace(old=old, kept=kept_of(batch, old, index) if selects else None)

    def kept_of(batch: TrainingBatch, old: OldScores, index: Array) -> Bool[Array, "batch samples"]:
        """True for responses of this device's share that the objective keeps, selected in the whole batch."""
        if old.behaviour is None or old.reference is None:
            raise ValueError("objective: selects without a reference of tokens")
        margins = grid.whole_over_data(loss_change(old.behaviour, old.reference, batch.response_mask))
        chosen = phase.objective.kept(margins.ravel(), index, phase.steps).reshape(margins.shape)
        return share_of(chosen, grid.part(), parts)

    def loss_and_gradient(
        params: Params, batch: TrainingBatch, token: Array | None
    ) -> tuple[tuple[Float[Array, ""], Any], Float[Array, "batch samples"]]:
        """Loss of the batch and its gradient, from the batch's parts on all devices, and ln pi(y|x) of the
        responses of this device, or ln pi of the `token` alone."""
        objective, by_class = phase.objective, phase.class_weights

        def mean_loss(params: Params, own: TrainingBatch) -> tuple[Array, Array]:
            losses, scores, weights = response_losses(model, objective, params, own, by_class, token)
            return mean_by_class(losses, weights), scores.log_probs

        def weighted_loss(params: Params, own: TrainingBatch) -> tuple[Array, tuple[Array, Array]]:
            losses, scores, weights = response_losses(model, objective, params, own, by_class, token)
            loss, log_mass = mean_by_weight(objective, losses, scores, weights)
            return loss, (log_mass, scores.log_probs)

        batch = batch._replace(log_pi=None)
        if not objective.weighs:
            found, log_probs = mean_gradient(mean_loss, params, batch, turns)
            return grid.mean_over_data(found), log_probs
        found, log_mass, log_probs = weighted_gradient(weighted_loss, params, batch, turns)
        return grid.weighted_mean_over_data(found, log_mass), log_probs

    def step(
        carry: tuple[TrainState, ChunkLog], seed: Array, fixed: Params, index: Array
    ) -> tuple[TrainState, ChunkLog]:
        state, log = carry
        batch = training_batch(state, seed, fixed, index)
        if phase.objective.by_token:
            state, (each, by_token) = jax.lax.scan(
                lambda state, token: update(state, batch, index, token),
                state,
                jnp.arange(batch.responses.shape[-1]),
            )
            own = jax.tree.map(jnp.mean, each)._replace(
                loss=jnp.sum(each.loss), seen=seen_of(batch, jnp.sum(by_token, axis=0))
            )
        elif source.updates == 1:
            state, (own, _) = update(state, batch, index)
        else:
            state, (each, _) = jax.lax.scan(
                lambda state, _: update(state, batch, index), state, length=source.updates
            )
            own = jax.tree.map(jnp.mean, each)
        return state, jax.tree.map(jnp.add, log, own)

    def seen_of(batch: TrainingBatch, log_probs: Float[Array, "batch samples"]) -> Seen | None:
        if not source.demonstrates:
            return None
        return grid.mean_over_data(seen_in(batch, log_probs, ns, phase.class_weights))

    @jax.named_scope("update")
    def update(
        state: TrainState, batch: TrainingBatch, index: Array, token: Array | None = None
    ) -> tuple[TrainState, tuple[ChunkLog, Float[Array, "batch samples"]]]:
        with jax.named_scope("gradient"):
            (loss, gradient), log_probs = loss_and_gradient(state.params, batch, token)
        norm = norm_of(gradient, grid.platform)
        updates, opt_state = rule.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        good = (state.failed_at < 0) & jnp.isfinite(loss) & jnp.isfinite(norm)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(good, new, old), (params, opt_state), (state.params, state.opt_state)
        )
        failed_at = jnp.where(good | (state.failed_at >= 0), state.failed_at, index + 1)
        reward = jnp.zeros(()) if batch.rewards is None else grid.mean_over_data(jnp.mean(batch.rewards))
        log = ChunkLog(loss, norm, reward, seen_of(batch, log_probs) if token is None else None)
        return TrainState(params, opt_state, failed_at, state.reference), (log, log_probs)

    def run_one(
        state: TrainState, seed: Array, fixed: Params, start: Array, stop: Array
    ) -> tuple[TrainState, ChunkLog]:
        nothing = Seen(jnp.zeros(()), jnp.zeros(len(ns))) if source.demonstrates else None
        zero = ChunkLog(jnp.zeros(()), jnp.zeros(()), jnp.zeros(()), nothing)
        state, total = jax.lax.fori_loop(
            start, stop, lambda i, carry: step(carry, seed, fixed, i), (state, zero)
        )
        return state, jax.tree.map(lambda value: value / (stop - start), total)

    def run_seeds(
        state: TrainState, seeds: Array, fixed: Params, start: Array, stop: Array
    ) -> tuple[TrainState, ChunkLog]:
        with training_products(grid.platform, phase.precision):
            return over_seeds(run_one, batching, 3)(state, seeds, fixed, start, stop)

    def begin(params: Params, failed_at: Array) -> TrainState:
        anchored = phase.objective.reference != "none" and source.model is None
        # Copied, because the program donates the state, and two of its arrays must not share memory.
        reference = jax.tree.map(jnp.copy, params) if anchored else ()
        return TrainState(params, jax.vmap(rule.init)(params), failed_at, reference)

    def score_one(params: Params, fixed: Params, batches: Batch) -> dict[str, dict[str, Array]]:
        def score(batch: Batch) -> dict[str, dict[str, Array]]:
            return {
                evaluator.name: evaluator.given(fixed).score(tested, phase.task, params, batch)
                for evaluator in evaluators
            }

        scores = jax.lax.map(score, batches)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), scores)

    def score_seeds(params: Params, fixed: Params, batches: Batch) -> dict[str, dict[str, Array]]:
        with exact_products(grid.platform):
            return over_seeds(score_one, batching, 2)(params, fixed, batches)

    def same(state: TrainState) -> TrainState:
        return state

    spread = grid.shard(run_seeds, (PER_SEED, PER_SEED, PER_SEED, EVERYWHERE, EVERYWHERE))

    def run(
        state: TrainState, seeds: Array, start: Array, stop: Array, fixed: Params = ()
    ) -> tuple[TrainState, ChunkLog]:
        return spread(state, seeds, fixed, start, stop)

    # A state that began on one device would make `run` compile its first chunk for that one device.
    begin = grid.shard(begin, (PER_SEED, PER_SEED))
    place = jax.jit(grid.shard(same, (PER_SEED,)))
    score_seeds = grid.shard(score_seeds, (PER_SEED, PER_SEED, PER_EXAMPLE), SCORED)
    init = grid.shard(functools.partial(first_parameters, model), (PER_SEED,))
    options = grid.compiler_options | phase.options
    functions = kept(
        {
            "init": jax.jit(init),
            "begin": jax.jit(begin),
            "score": jax.jit(score_seeds, compiler_options=options, out_shardings=grid.replicated),
            "run": jax.jit(
                run, donate_argnums=0, compiler_options=options, out_shardings=(None, grid.replicated)
            ),
        },
        phase.name,
        shelf,
        grid.devices,
    )

    @functools.cache
    def batches() -> Batch:
        return _spread((held_out if isinstance(held_out, HeldOut) else held_out()).batches, grid)

    def prepare(seeds: int) -> None:
        if shelf is not None:
            fetch(functions, seeds, grid, source.model is None)

    return Program(
        init=functions["init"],
        begin=functions["begin"],
        place=lambda state: place(grid.place(state)),
        run=functions["run"],
        evaluate=functions["score"],
        batches=batches,
        prepare=prepare,
    )


def first_parameters(model: Model, seeds: Int[Array, " seeds"]) -> Params:
    """Fresh parameters, with a leading axis of seeds."""

    def one(seed: Array) -> Params:
        return model.init(stream(seed, "init"))

    return jax.lax.map(one, seeds) if model.init_in_turn else jax.vmap(one)(seeds)


def _spread(batches: Batch, grid: Grid) -> Batch:
    """Batches of a held-out set, an equal number for every share of the data axis. Batches that fill up the
    last share come after all examples."""
    if grid.mesh is None:
        return batches if grid.runs else grid.place(batches)
    count = len(batches.position)
    index = np.resize(np.arange(count), -(-count // grid.layout.data) * grid.layout.data)
    return grid.place(jax.tree.map(lambda leaf: np.asarray(leaf)[index], batches), PER_EXAMPLE)


def seed_devices(num_seeds: int) -> int:
    """Number of this process's devices that the seeds are spread over: the largest that divides their
    number."""
    available = jax.local_device_count()
    return max(count for count in range(1, available + 1) if num_seeds % count == 0)
