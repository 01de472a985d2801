"""Batches of a step: prompts drawn from the phase's streams, and responses."""

from __future__ import annotations

import functools

import jax
from jaxtyping import Array, Int, PRNGKeyArray

from models import Params
from tasks import Example, stream
from training.distillation import teacher_laws
from training.phase import Phase
from training.sources import Policy, TrainingBatch


def batch_of_step(
    phase: Phase, seed: Int[Array, ""], step: Int[Array, ""], part: int | Int[Array, ""] = 0, parts: int = 1
) -> Example:
    """The batch of `step`: fresh examples, or examples of the fixed data set drawn with replacement.

    Example i of a data set is `sample` of the key (seed, "train", phase, "data", i), so the data set is fixed
    and never stored. Every example has one key, so that share `part` of `parts` equal shares does not depend
    on the device.
    """

    def own(drawn: Array) -> Array:
        return share_of(drawn, part, parts)

    if phase.dataset_size is None:
        keys = own(keys_of_step(phase.name, phase.batch_size, seed, step))
    else:
        index_key = stream(seed, "train", phase.name, "index", step)
        index = own(jax.random.randint(index_key, (phase.batch_size,), 0, phase.dataset_size))
        keys = keys_of_data(phase.name, seed, index)
    return jax.vmap(lambda key: phase.task.sample(key, phase.proposal))(keys)


def keys_of_step(name: str, batch_size: int, seed: Int[Array, ""], step: Int[Array, ""]) -> PRNGKeyArray:
    """Keys of the fresh examples of a step in the phase `name`."""
    return jax.random.split(stream(seed, "train", name, "fresh", step), batch_size)


def keys_of_data(name: str, seed: Int[Array, ""], index: Int[Array, " rows"]) -> PRNGKeyArray:
    """Keys of the examples `index` of the fixed data set of the phase `name`."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(stream(seed, "train", name, "data"), index)


def responses_of_step(
    phase: Phase,
    seed: Int[Array, ""],
    step: Int[Array, ""],
    part: int | Int[Array, ""] = 0,
    parts: int = 1,
    fixed: Params = (),
    policy: Policy | None = None,
) -> TrainingBatch:
    """Prompts of `batch_of_step` with responses of the phase's source, under `fixed` or `policy`.

    If the phase's objective needs a teacher, pi_D's laws at every prefix of the responses are included.
    """
    examples = batch_of_step(phase, seed, step, part, parts)
    key = stream(seed, "train", phase.name, "rollouts", step)
    keys = share_of(jax.random.split(key, phase.batch_size), part, parts)
    batch = phase.source(phase.task, examples, keys, fixed, policy)
    if not phase.objective.needs_teacher:
        return batch
    of_prompt = jax.vmap(functools.partial(teacher_laws, phase.task), (None, 0))
    return batch._replace(teacher=jax.vmap(of_prompt)(examples.latent, batch.responses))


def share_of(drawn: Array, part: int | Int[Array, ""], parts: int) -> Array:
    """Share `part` of `parts` equal shares of an array whose leading axis is the batch."""
    if parts == 1:
        return drawn
    share = drawn.shape[0] // parts
    return jax.lax.dynamic_slice_in_dim(drawn, part * share, share)
