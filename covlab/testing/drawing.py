"""Drawing and judging examples: compiled once for each task, and shared by all tests of a session."""

import functools
from typing import Any

import jax
import numpy as np

from tasks import Task, stream


@functools.cache
def _sampler(task: Task) -> Any:
    return jax.jit(jax.vmap(task.sample))


@functools.cache
def _judge(task: Task) -> Any:
    def one(latent: Any, response: Any) -> Any:
        return task.log_prob(latent, response), task.reward(latent, response), task.validity(latent, response)

    return jax.jit(jax.vmap(jax.vmap(one, (None, 0)), (0, 0)))


@functools.cache
def _lister(task: Task) -> Any:
    return jax.jit(jax.vmap(task.enumerate))


@functools.cache
def draw(task: Task, count: int, name: str = "test") -> Any:
    """`count` examples (`tasks.Example`) as NumPy arrays, from the stream (0, `name`)."""
    return jax.tree.map(np.asarray, _sampler(task)(jax.random.split(stream(0, name), count)))


def judge(task: Task, latent: Any, responses: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(log_prob, reward, validity), each (prompts, responses), of several responses of each prompt."""
    log_prob, reward, validity = _judge(task)(latent, responses)
    return np.asarray(log_prob, np.float64), np.asarray(reward), np.asarray(validity)


def listed(task: Task, latent: Any) -> tuple[np.ndarray, np.ndarray]:
    """(responses, mask) of `Task.enumerate` for a batch of prompts."""
    responses, mask = _lister(task)(latent)
    return np.asarray(responses), np.asarray(mask)


def take(example: Any, index: Any) -> Any:
    """The chosen examples of a batch."""
    return jax.tree.map(lambda a: a[index], example)
