"""The device program of one phase: data, loss, update and evaluation, jitted together for all seeds at
once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from metrics.evaluators import Batch, Evaluator, HeldOut
from models import Model, Params, token_log_probs, token_logits
from tasks import stream
from training.averaging import Averaged
from training.feed import responses_of_step
from training.mesh import DATA, EVERYWHERE, PER_EXAMPLE, PER_SEED, SEED, Grid, Layout
from training.objectives import Objective, Scores
from training.old_scores import Rolled, divergence, old_scores
from training.phase import Phase
from training.sources import Policy, TrainingBatch
from training.step import mean_gradient, parts_of_batch, weighted_gradient


class TrainState(NamedTuple):
    """All that a seed carries from step to step; random keys are functions of (seed, phase, step), never
    state.

    `failed_at` is the step at which the loss or the gradient stopped being finite, -1 while all is well; from
    then on parameters stay at their last good value. `reference` is what the phase began with, where its
    objective keeps near that, else ().
    """

    params: Params
    opt_state: Any
    failed_at: Int[Array, ""]
    reference: Params = ()

    @property
    def evaluated(self) -> Params:
        """What the phase has trained: the average of its iterates where it averages them, else `params`."""
        return self.opt_state.average if isinstance(self.opt_state, Averaged) else self.params


class ChunkLog(NamedTuple):
    """Means over a chunk of steps, and over the updates of each; `reward` is 0 where nothing is judged."""

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    reward: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled functions of a phase. Arrays of a `TrainState` have a leading axis of seeds.

    Of several processes, all must call the same functions in the same order.

    Attributes:
        init: parameters from seeds.
        begin: the state at the start of the phase, from parameters and the steps at which seeds have failed.
        place: a state that was read from disk, moved to where `run` keeps it.
        run: the state after the steps from `start` to `stop`, and their means; the old state is donated.
        score: every evaluator's per-example arrays on the held-out set, at least `num_examples` of them.

    The last argument of `run` and `score` are the fixed parameters of the base model, with an axis of seeds
    too, where the phase's source, its objective or an evaluator needs them.
    """

    init: Callable[[Int[Array, " seeds"]], Params]
    begin: Callable[[Params, Int[Array, " seeds"]], TrainState]
    place: Callable[[TrainState], TrainState]
    run: Callable[..., tuple[TrainState, ChunkLog]]
    score: Callable[..., dict[str, dict[str, Array]]]


def batch_loss(
    model: Model,
    objective: Objective,
    params: Params,
    batch: TrainingBatch,
    class_weights: Sequence[float] | None = None,
) -> Float[Array, ""]:
    """Mean over the batch's responses of the objective's losses, each times the weight of its class.

    Where the objective weighs sequences it is their weighted mean, sum_i w_i l_i / sum_i w_i.
    """
    losses, scores, weights = _losses(model, objective, params, batch, class_weights)
    if objective.weighs:
        return _weighted(objective, losses, scores, weights)[0]
    return jnp.mean(losses if weights is None else weights * losses)


def _weighted(
    objective: Objective, losses: Array, scores: Scores, weights: Array | None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The weighted mean of the losses, and ln of the sum of the weights, in nats."""
    log_weights = jax.lax.stop_gradient(objective.log_weights(scores))
    if weights is not None:
        log_weights += jnp.log(weights)
    log_mass = jax.nn.logsumexp(log_weights)
    return jnp.sum(jnp.exp(log_weights - log_mass) * losses), log_mass


def _losses(
    model: Model,
    objective: Objective,
    params: Params,
    batch: TrainingBatch,
    class_weights: Sequence[float] | None,
) -> tuple[Float[Array, "batch samples"], Scores, Float[Array, "batch 1"] | None]:
    """Loss of every response, the scores that it came from, and the weight of its class."""
    logits = model.logits(params, batch.prompt, batch.prompt_mask, batch.responses)
    prompt_scores = prompt_mask = None
    if objective.needs_prompt:
        prompt_scores = token_log_probs(
            model.prompt_logits(params, batch.prompt, batch.prompt_mask), batch.prompt[:, 1:]
        )[:, None]
        prompt_mask = (batch.prompt_mask[:, :-1] & batch.prompt_mask[:, 1:])[:, None]
    theirs = batch.old.distributions
    if theirs is not None:
        # Before the divergence, whose gradient at padding would be 0 times whatever stands there.
        theirs = jnp.where(batch.response_mask[..., None], theirs, 0.0)
    scores = Scores(
        token_log_probs(logits, batch.responses),
        batch.response_mask,
        prompt_scores,
        prompt_mask,
        token_logits(logits, batch.responses),
        batch.rewards if batch.bonus is None or batch.rewards is None else batch.rewards + batch.bonus,
        batch.old.behaviour,
        batch.old.reference,
        None if theirs is None else divergence(logits, theirs),
        jax.nn.log_softmax(logits),
        batch.teacher,
    ).masked()
    weights = None if class_weights is None else jnp.asarray(class_weights)[batch.group][:, None]
    return objective.losses(scores), scores, weights


SCORED = PartitionSpec(SEED, DATA)
SeedBatching = Literal["auto", "vmap", "map"]


def over_seeds(function: Callable[..., Any], batching: SeedBatching, mapped: int) -> Callable[..., Any]:
    """`function` for all seeds of a device; its first `mapped` arguments have an axis of seeds, the others
    have none.

    "vmap" computes them together, "map" one after the other in the same program. "auto" takes "map" on CPU,
    where a seed's working set then stays in the cache, and "vmap" elsewhere.
    """
    if batching == "map" or (batching == "auto" and jax.default_backend() == "cpu"):
        return lambda *args: jax.lax.map(lambda own: function(*own, *args[mapped:]), args[:mapped])
    return lambda *args: jax.vmap(lambda *own: function(*own, *args[mapped:]))(*args[:mapped])


def make_program(
    model: Model,
    phase: Phase,
    evaluators: tuple[Evaluator, ...],
    held_out: HeldOut,
    devices: int | Grid = 1,
    batching: SeedBatching = "auto",
) -> Program:
    """Compile-ready functions of a phase.

    `shard_map` gives every device its share of the seeds and of each batch. Seeds need no communication; the
    devices that share a batch average loss and gradient over equal shares, and so agree on the update and on
    whether the seed diverged. An evaluation is shared in whole batches of the held-out set. The number of
    steps of a chunk is a traced bound, so one compilation serves every interval between evaluations.

    Args:
        model, phase, evaluators, held_out: what is trained, how, and measured on what.
        devices: what computes; a number stands for so many of this process's devices, seeds spread over
            them.
        batching: how the seeds of one device are computed, see `over_seeds`.
    """
    grid = Grid(Layout(devices), local=True) if isinstance(devices, int) else devices
    parts = grid.layout.data
    tokens = phase.task.prompt_length + phase.source.samples * phase.task.response_length
    turns = parts_of_batch(phase.batch_size // parts, tokens)
    rule, source = phase.rule, phase.source

    @jax.named_scope("data")
    def answered(state: TrainState, seed: Array, fixed: Params, index: Array) -> TrainingBatch:
        policy = Policy(model, state.params) if source.on_policy else None
        batch = responses_of_step(phase, seed, index, grid.part(), parts, fixed, policy)
        wanted = phase.objective.reference
        drew = state.params if phase.objective.needs_policy and source.updates > 1 else None
        theirs = None if wanted == "none" else state.reference if source.model is None else fixed
        if drew is None and theirs is None:
            return batch
        rolled = Rolled(batch.prompt, batch.prompt_mask, batch.responses)
        return batch._replace(
            old=old_scores(model, rolled, turns, drew, theirs, source.model, wanted == "distributions")
        )

    def slope(params: Params, batch: TrainingBatch) -> tuple[Float[Array, ""], Any]:
        """The batch's loss and its gradient, from its parts on all devices."""
        objective, classes = phase.objective, phase.class_weights
        if not objective.weighs:
            return grid.mean_over_data(
                mean_gradient(
                    lambda params, own: batch_loss(model, objective, params, own, classes),
                    params,
                    batch,
                    turns,
                )
            )
        found, log_mass = weighted_gradient(
            lambda params, own: _weighted(objective, *_losses(model, objective, params, own, classes)),
            params,
            batch,
            turns,
        )
        return grid.weighted_mean_over_data(found, log_mass)

    def step(
        carry: tuple[TrainState, ChunkLog], seed: Array, fixed: Params, index: Array
    ) -> tuple[TrainState, ChunkLog]:
        state, log = carry
        batch = answered(state, seed, fixed, index)
        if source.updates == 1:
            state, own = update(state, batch, index)
        else:
            state, each = jax.lax.scan(
                lambda state, _: update(state, batch, index), state, length=source.updates
            )
            own = jax.tree.map(jnp.mean, each)
        return state, jax.tree.map(jnp.add, log, own)

    @jax.named_scope("update")
    def update(state: TrainState, batch: TrainingBatch, index: Array) -> tuple[TrainState, ChunkLog]:
        with jax.named_scope("gradient"):
            loss, gradient = slope(state.params, batch)
        norm = optax.tree.norm(gradient)
        updates, opt_state = rule.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        good = (state.failed_at < 0) & jnp.isfinite(loss) & jnp.isfinite(norm)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(good, new, old), (params, opt_state), (state.params, state.opt_state)
        )
        failed_at = jnp.where(good | (state.failed_at >= 0), state.failed_at, index + 1)
        reward = jnp.zeros(()) if batch.rewards is None else grid.mean_over_data(jnp.mean(batch.rewards))
        return TrainState(params, opt_state, failed_at, state.reference), ChunkLog(loss, norm, reward)

    def run_one(
        state: TrainState, seed: Array, fixed: Params, start: Array, stop: Array
    ) -> tuple[TrainState, ChunkLog]:
        zero = ChunkLog(*(jnp.zeros(()) for _ in ChunkLog._fields))
        state, total = jax.lax.fori_loop(
            start, stop, lambda i, carry: step(carry, seed, fixed, i), (state, zero)
        )
        return state, jax.tree.map(lambda value: value / (stop - start), total)

    def run_seeds(
        state: TrainState, seeds: Array, fixed: Params, start: Array, stop: Array
    ) -> tuple[TrainState, ChunkLog]:
        return over_seeds(run_one, batching, 3)(state, seeds, fixed, start, stop)

    def begin(params: Params, failed_at: Array) -> TrainState:
        anchored = phase.objective.reference != "none" and source.model is None
        # A copy: two arrays of one state must not share memory, which the program gives away.
        reference = jax.tree.map(jnp.copy, params) if anchored else ()
        return TrainState(params, jax.vmap(rule.init)(params), failed_at, reference)

    def score_one(params: Params, fixed: Params, batches: Batch) -> dict[str, dict[str, Array]]:
        def score(batch: Batch) -> dict[str, dict[str, Array]]:
            return {
                evaluator.name: evaluator.given(fixed).score(model, phase.task, params, batch)
                for evaluator in evaluators
            }

        scores = jax.lax.map(score, batches)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), scores)

    def score_seeds(params: Params, fixed: Params, batches: Batch) -> dict[str, dict[str, Array]]:
        return over_seeds(score_one, batching, 2)(params, fixed, batches)

    def same(state: TrainState) -> TrainState:
        return state

    spread = grid.shard(run_seeds, (PER_SEED, PER_SEED, PER_SEED, EVERYWHERE, EVERYWHERE))

    def run(
        state: TrainState, seeds: Array, start: Array, stop: Array, fixed: Params = ()
    ) -> tuple[TrainState, ChunkLog]:
        return spread(state, seeds, fixed, start, stop)

    # A state that begins where it stays: on one device, its first chunk would be compiled for that alone.
    begin = grid.shard(begin, (PER_SEED, PER_SEED))
    place = jax.jit(grid.shard(same, (PER_SEED,)))
    score_seeds = grid.shard(score_seeds, (PER_SEED, PER_SEED, PER_EXAMPLE), SCORED)
    init = grid.shard(jax.vmap(lambda seed: model.init(stream(seed, "init"))), (PER_SEED,))
    # One thread a CPU device: with a device a core, XLA's own threads would only wait for each other.
    alone = grid.mesh is None or jax.default_backend() != "cpu"
    options = None if alone else {"xla_cpu_multi_thread_eigen": False}
    compiled_score = jax.jit(score_seeds, compiler_options=options, out_shardings=grid.replicated)
    batches = _spread(held_out.batches, grid)
    return Program(
        init=jax.jit(init),
        begin=jax.jit(begin),
        place=lambda state: place(grid.place(state)),
        run=jax.jit(run, donate_argnums=0, compiler_options=options, out_shardings=(None, grid.replicated)),
        score=lambda params, fixed=(): compiled_score(params, fixed, batches),
    )


def _spread(batches: Batch, grid: Grid) -> Batch:
    """The batches of a held-out set, an equal number for every share of the data axis; what fills the last
    share comes after all examples."""
    if grid.mesh is None:
        return batches
    count = len(batches.position)
    index = np.resize(np.arange(count), -(-count // grid.layout.data) * grid.layout.data)
    return grid.place(jax.tree.map(lambda leaf: np.asarray(leaf)[index], batches), PER_EXAMPLE)


def seed_devices(num_seeds: int) -> int:
    """How many of this process's devices the seeds are spread over: the largest number that divides them
    evenly."""
    available = jax.local_device_count()
    return max(count for count in range(1, available + 1) if num_seeds % count == 0)
