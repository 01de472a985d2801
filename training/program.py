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
from tasks import Example, stream
from training.mesh import DATA, EVERYWHERE, PER_EXAMPLE, PER_SEED, SEED, Grid, Layout
from training.objectives import Objective, Scores
from training.phase import Phase
from training.sources import TrainingBatch
from training.step import mean_gradient, parts_of_batch


class TrainState(NamedTuple):
    """All that a seed carries from step to step; random keys are functions of (seed, phase, step), never
    state.

    `failed_at` is the step at which the loss or the gradient stopped being finite, -1 while all is well; from
    then on parameters stay at their last good value.
    """

    params: Params
    opt_state: Any
    failed_at: Int[Array, ""]


class ChunkLog(NamedTuple):
    """Means over a chunk of steps."""

    loss: Float[Array, ""]
    gradient_norm: Float[Array, ""]


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
    too, where the phase's source or an evaluator needs them.
    """

    init: Callable[[Int[Array, " seeds"]], Params]
    begin: Callable[[Params, Int[Array, " seeds"]], TrainState]
    place: Callable[[TrainState], TrainState]
    run: Callable[..., tuple[TrainState, ChunkLog]]
    score: Callable[..., dict[str, dict[str, Array]]]


def batch_of_step(
    phase: Phase, seed: Int[Array, ""], step: Int[Array, ""], part: int | Int[Array, ""] = 0, parts: int = 1
) -> Example:
    """The batch of `step`: fresh examples, or examples of the fixed data set drawn with replacement.

    Example i of a data set is `sample` of the key (seed, "train", phase, "data", i): the set is fixed and
    never stored. Every example has a key of its own, so that share `part` of `parts` equal ones holds the
    same examples whoever makes it.
    """

    def own(drawn: Array) -> Array:
        return _share(drawn, part, parts)

    if phase.dataset_size is None:
        keys = own(jax.random.split(stream(seed, "train", phase.name, "fresh", step), phase.batch_size))
    else:
        index_key = stream(seed, "train", phase.name, "index", step)
        index = own(jax.random.randint(index_key, (phase.batch_size,), 0, phase.dataset_size))
        data = stream(seed, "train", phase.name, "data")
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(data, index)
    return jax.vmap(lambda key: phase.task.sample(key, phase.proposal))(keys)


def responses_of_step(
    phase: Phase,
    seed: Int[Array, ""],
    step: Int[Array, ""],
    part: int | Int[Array, ""] = 0,
    parts: int = 1,
    fixed: Params = (),
) -> TrainingBatch:
    """The prompts of `batch_of_step`, answered by the phase's source with the parameters `fixed`."""
    examples = batch_of_step(phase, seed, step, part, parts)
    key = stream(seed, "train", phase.name, "rollouts", step)
    return phase.source(
        phase.task, examples, _share(jax.random.split(key, phase.batch_size), part, parts), fixed
    )


def _share(drawn: Array, part: int | Int[Array, ""], parts: int) -> Array:
    if parts == 1:
        return drawn
    share = drawn.shape[0] // parts
    return jax.lax.dynamic_slice_in_dim(drawn, part * share, share)


def batch_loss(
    model: Model,
    objective: Objective,
    params: Params,
    batch: TrainingBatch,
    class_weights: Sequence[float] | None = None,
) -> Float[Array, ""]:
    """Mean over the batch's responses of the objective's losses, each times the weight of its class."""
    logits = model.logits(params, batch.prompt, batch.prompt_mask, batch.responses)
    prompt_scores = prompt_mask = None
    if objective.needs_prompt:
        prompt_scores = token_log_probs(
            model.prompt_logits(params, batch.prompt, batch.prompt_mask), batch.prompt[:, 1:]
        )[:, None]
        prompt_mask = (batch.prompt_mask[:, :-1] & batch.prompt_mask[:, 1:])[:, None]
    scores = Scores(
        token_log_probs(logits, batch.responses),
        batch.response_mask,
        prompt_scores,
        prompt_mask,
        token_logits(logits, batch.responses),
        batch.rewards,
    )
    losses = objective(scores)
    weights = None if class_weights is None else jnp.asarray(class_weights)[batch.group][:, None]
    return jnp.mean(losses if weights is None else weights * losses)


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

    def step(
        carry: tuple[TrainState, ChunkLog], seed: Array, fixed: Params, index: Array
    ) -> tuple[TrainState, ChunkLog]:
        state, log = carry
        batch = responses_of_step(phase, seed, index, grid.part(), parts, fixed)
        loss, gradient = grid.mean_over_data(
            mean_gradient(
                lambda params, own: batch_loss(model, phase.objective, params, own, phase.class_weights),
                state.params,
                batch,
                turns,
            )
        )
        norm = optax.tree.norm(gradient)
        updates, opt_state = phase.optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        good = (state.failed_at < 0) & jnp.isfinite(loss) & jnp.isfinite(norm)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(good, new, old), (params, opt_state), (state.params, state.opt_state)
        )
        failed_at = jnp.where(good | (state.failed_at >= 0), state.failed_at, index + 1)
        return TrainState(params, opt_state, failed_at), ChunkLog(log.loss + loss, log.gradient_norm + norm)

    def run_one(
        state: TrainState, seed: Array, fixed: Params, start: Array, stop: Array
    ) -> tuple[TrainState, ChunkLog]:
        zero = ChunkLog(jnp.zeros(()), jnp.zeros(()))
        state, total = jax.lax.fori_loop(
            start, stop, lambda i, carry: step(carry, seed, fixed, i), (state, zero)
        )
        return state, jax.tree.map(lambda value: value / (stop - start), total)

    def run_seeds(
        state: TrainState, seeds: Array, fixed: Params, start: Array, stop: Array
    ) -> tuple[TrainState, ChunkLog]:
        return over_seeds(run_one, batching, 3)(state, seeds, fixed, start, stop)

    def begin(params: Params, failed_at: Array) -> TrainState:
        return TrainState(params, jax.vmap(phase.optimizer.init)(params), failed_at)

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
