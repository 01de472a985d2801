"""The batch of a step: prompts drawn from the phase's streams, and their responses."""

from __future__ import annotations

import functools

import jax
from jaxtyping import Array, Int

from models import Params
from tasks import Example, stream
from training.distillation import enumerated_teacher
from training.phase import Phase
from training.sources import Policy, TrainingBatch


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
    policy: Policy | None = None,
) -> TrainingBatch:
    """The prompts of `batch_of_step`, answered by the phase's source: with the parameters `fixed`, or on
    policy; and pi_D's laws at every prefix of the answers, if the phase's objective needs them."""
    examples = batch_of_step(phase, seed, step, part, parts)
    key = stream(seed, "train", phase.name, "rollouts", step)
    keys = _share(jax.random.split(key, phase.batch_size), part, parts)
    batch = phase.source(phase.task, examples, keys, fixed, policy)
    if not phase.objective.needs_teacher:
        return batch
    of_prompt = jax.vmap(functools.partial(enumerated_teacher, phase.task), (None, 0))
    return batch._replace(teacher=jax.vmap(of_prompt)(examples.latent, batch.responses))


def _share(drawn: Array, part: int | Int[Array, ""], parts: int) -> Array:
    if parts == 1:
        return drawn
    share = drawn.shape[0] // parts
    return jax.lax.dynamic_slice_in_dim(drawn, part * share, share)
