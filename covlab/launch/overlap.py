"""Held-out prompts that are training prompts too: in a small space of prompts two streams meet."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Int

from covlab.launch.build import Setup
from metrics.evaluators import HeldOut
from tasks import stream
from tracking.atomic import atomic_write
from training import CrossEntropy, EvaluationSchedule, Phase
from training.feed import batch_of_step

FILE = "overlap.json"
MOST = 2048
"""Training prompts that are drawn again to be compared: more are estimated from these."""
RARE = 1e-4
"""Training prompts over `least_prompts` of the task below which nothing is drawn: the share is of this order
at most."""


def among(
    prompts: Int[np.ndarray, "rows prompt"], others: Int[np.ndarray, "others prompt"]
) -> Bool[np.ndarray, " rows"]:
    """Mask of the prompts that are among `others`, token by token, padding included."""
    if prompts.shape[1] != others.shape[1]:
        return np.zeros(len(prompts), bool)
    known = set(_hashable(others))
    return np.array([row in known for row in _hashable(prompts)], bool)


def _hashable(prompts: Int[np.ndarray, "rows prompt"]) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(prompts, np.int32)]


def training_prompts(phase: Phase, seed: int, count: int) -> Int[np.ndarray, "count prompt"]:
    """The first `count` prompts that a seed trains on in a phase, by the keys of `training.feed`: of its
    fixed set where it has one, else in the order of its batches."""
    # Phases that differ in what else they do share the program.
    drawn = Phase(
        phase.name, phase.task, CrossEntropy(), _NOTHING, 0, phase.batch_size, phase.dataset_size,
        EvaluationSchedule(), 1, phase.class_proposal,
    )  # fmt: skip
    found = np.asarray(_prompts(drawn, jnp.asarray(seed, jnp.uint32), count))
    return found.reshape(-1, found.shape[-1])[:count]


_NOTHING = optax.identity()


@functools.partial(jax.jit, static_argnames=("phase", "count"))
def _prompts(phase: Phase, seed: Int[Array, ""], count: int) -> Int[Array, "... prompt"]:
    if phase.dataset_size is None:
        steps = jnp.arange(-(-count // phase.batch_size))
        return jax.lax.map(lambda step: batch_of_step(phase, seed, step).prompt, steps)
    data = stream(seed, "train", phase.name, "data")
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(data, jnp.arange(count))
    return jax.lax.map(lambda key: phase.task.sample(key, phase.proposal).prompt, keys, batch_size=64)


def overlap(phase: Phase, held_out: HeldOut, seed: int) -> dict[str, Any]:
    """Held-out prompts that a phase trains on, for one seed.

    With n training prompts, of which m are drawn again, `share` is the held-out set's weight of prompts that
    are among them: counted where m = n. Else it is estimated class by class. Of the m draws, a fraction h
    falls on the D different held-out prompts of a class; where these are about equally likely, a fraction
    1 - (1 - h/D)^n of them is met by n draws. Nothing is drawn where the task has so many prompts that the
    share is 0 to four digits, or one alone.

    Returns:
        `held_out` prompts, `different` ones among them, `training` prompts (n), `drawn` (m), `share`,
        `counted` (whether the share is exact).
    """
    count = phase.steps * phase.batch_size if phase.dataset_size is None else phase.dataset_size
    drawn = min(count, MOST)
    own = held_out.flat(held_out.batches.example.prompt)
    facts = {"held_out": len(own), "different": len(set(_hashable(own))), "training": count, "drawn": drawn}
    if count < RARE * phase.task.least_prompts:
        return facts | {"drawn": 0, "share": 0.0, "counted": False}
    if not drawn:
        return facts | {"share": 0.0, "counted": True}
    if facts["different"] == 1 < len(own):
        # Many tasks have one prompt, which asks nothing of a new one.
        return facts | {"drawn": 0, "share": 1.0, "counted": False}
    theirs = training_prompts(phase, seed, drawn)
    met = among(own, theirs)
    share = float(np.sum(held_out.weights[met]) / np.sum(held_out.weights))
    if drawn < count and met.any():
        share = 0.0
        for group in np.unique(held_out.groups):
            members = held_out.groups == group
            rate = among(theirs, own[members]).mean() / len(set(_hashable(own[members])))
            weight = np.sum(held_out.weights[members]) / np.sum(held_out.weights)
            share += float(weight * -np.expm1(count * np.log1p(-min(rate, 1 - 1e-12))))
    return facts | {"share": round(share, 4), "counted": drawn == count}


def note_overlap(
    path: Path, setup: Setup, held_out: Sequence[HeldOut], say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Keep the overlap of every phase's training prompts with its held-out set in `overlap.json` of a run,
    and say in one line for each phase where there is one. A run that is continued reads it back.

    Returns:
        Phase name -> `overlap` for the first seed.
    """
    file = path / FILE
    asked = {phase.name: [phase.steps, phase.batch_size, phase.dataset_size] for phase in setup.phases}
    try:
        found: dict[str, Any] = json.loads(file.read_bytes())
        if found["phases"] == asked:
            return dict(found["overlap"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    counts = {}
    for phase, held in zip(setup.phases, held_out, strict=True):
        counts[phase.name] = own = overlap(phase, held, setup.seeds[0])
        # A task with one prompt asks nothing of a new one.
        if own["share"] and own["different"] > 1:
            how = "" if own["counted"] else f", estimated from {own['drawn']} of them"
            say(
                f"phase {phase.name}: {'' if own['counted'] else 'about '}{100 * own['share']:.2g} % of the "
                f"held-out prompts are among its {own['training']} training prompts{how}: its numbers are "
                "of prompts that were partly trained on"
            )
    atomic_write(file, json.dumps({"phases": asked, "overlap": counts}, indent=1).encode() + b"\n")
    return counts
