"""Showing examples of a task: python -m experiments.show task=layered_graph task.depth=3 num=4 group=G1."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray
from omegaconf import DictConfig

from covlab.launch.build import make
from covlab.launch.cli import command
from covlab.launch.runtime import configure
from covlab.report.tables import print_fields, print_table
from metrics import Interval, stratified_mean_interval
from metrics.evaluators import make_held_out
from tasks import Enumeration, Example, Task, check_seed, stream
from tasks.checks import whole

ENTROPY_EXAMPLES = 256
"""Prompts per class over which the entropy of pi_D is averaged."""


def draw_examples(task: Task, num: int, seed: int = 0, group: str | None = None) -> Example:
    """`num` examples (a leading axis) from the stream (seed, "show"), of the mixture or of one class.

    Raises:
        ValueError: num < 1, a seed that `check_seed` refuses, or a class that the task's
            mixture does not have.
    """
    whole("num", num, 1)
    start = stream(check_seed("seed", seed), "show")
    if group is not None and group not in task.groups:
        raise ValueError(f"group: {group!r} is no class of the mixture; valid are {', '.join(task.groups)}")
    return _draw(task, num, start, None if group is None else task.groups.index(group))


@functools.partial(jax.jit, static_argnames=("task", "num"))
def _draw(task: Task, num: int, start: PRNGKeyArray, group: int | None) -> Example:
    keys = jax.random.split(start, num)
    if group is None:
        return jax.vmap(task.sample)(keys)
    return jax.vmap(task.sample_group, in_axes=(0, None))(keys, jnp.asarray(group))


def entropy_of_task(task: Task, seed: int = 0) -> Interval:
    """E_x[H(pi_D(.|x))] in nats, over fresh prompts of every class, with a 95 % interval.

    A prompt's entropy is exact if the valid responses are enumerated, else the unbiased -ln pi_D(y|x) of one
    draw.
    """
    held_out = make_held_out(task, ENTROPY_EXAMPLES, ENTROPY_EXAMPLES, seed, "show")
    surprise = np.where(held_out.candidate_weight > 0, -held_out.log_pi, 0.0)
    # Adding 0 turns the -0 of a certain response into 0.
    entropy = (held_out.candidate_weight * surprise).sum(axis=1) + 0.0
    probabilities = np.asarray(task.group_probs) / math.fsum(task.group_probs)
    return stratified_mean_interval(entropy, held_out.groups, probabilities.tolist())


def summary(task: Task, seed: int = 0) -> list[tuple[str, Any]]:
    """(property, value) pairs that describe the task as a whole."""
    classes = ", ".join(f"{name} {p:.4g}" for name, p in zip(task.groups, task.group_probs, strict=True))
    return [
        ("task", repr(task)),
        ("vocabulary", f"{task.vocab_size} tokens, padding included"),
        ("prompt", f"at most {task.prompt_length} tokens"),
        ("response", f"at most {task.response_length} tokens"),
        ("classes", classes),
        ("valid responses of a prompt", task.num_enumerated or "not enumerated"),
        ("mean entropy of pi_D(.|x), nats [95 %]", entropy_of_task(task, seed)),
        *task.facts(),
    ]


def answers(task: Task, latent: Any) -> list[tuple[str, float, float]]:
    """(text, pi_D(y|x), reward) of every valid response to one prompt, the likeliest first.

    Empty if the task does not enumerate responses.
    """
    if not task.num_enumerated:
        return []
    listed, log_pi, rewards = jax.tree.map(np.asarray, _answers(task, latent))
    log_pi = log_pi.astype(np.float64)
    real = np.flatnonzero(listed.mask)
    rows = [(task.decode(listed.responses[i]), float(np.exp(log_pi[i])), float(rewards[i])) for i in real]
    return sorted(rows, key=lambda row: -row[1])


@functools.partial(jax.jit, static_argnames="task")
def _answers(task: Task, latent: Any) -> tuple[Enumeration, Array, Array]:
    """Valid responses with ln pi_D(y|x) and reward."""
    listed = task.enumerate(latent)
    log_pi = jax.vmap(task.log_prob, in_axes=(None, 0))(latent, listed.responses)
    return listed, log_pi, jax.vmap(task.reward, in_axes=(None, 0))(latent, listed.responses)


@functools.partial(jax.jit, static_argnames="task")
def _reward(task: Task, example: Example) -> Array:
    return task.reward(example.latent, example.response)


def show(config: DictConfig) -> int:
    """Print the task's summary and examples."""
    configure()
    task: Task = make(config.task, "task", Task)
    examples = jax.tree.map(np.asarray, draw_examples(task, config.num, config.seed, config.group))
    print_fields("Task", summary(task, config.seed))
    for i in range(config.num):
        example: Example = jax.tree.map(lambda a, i=i: a[i], examples)
        fields: list[tuple[str, Any]] = [
            ("class", task.groups[int(example.group)]),
            ("prompt", task.decode(example.prompt)),
            ("response of pi_D", task.decode(example.response)),
            ("its pi_D(y|x)", float(np.exp(example.log_prob))),
            ("its reward", float(_reward(task, example))),
        ]
        print_fields(f"Example {i + 1}", fields)
        if valid := answers(task, example.latent):
            columns = ["valid response", "pi_D(y|x)", "reward", "drawn"]
            drawn = task.decode(example.response)
            print_table(
                "Its valid responses", columns, [(*row, "*" if row[0] == drawn else "") for row in valid]
            )
    return 0


main = command("show", show, makes_runs=False)

if __name__ == "__main__":
    main()
