"""Overlap of held-out and training prompts, which is common in a small space of prompts."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, UInt32

from covlab.launch.build import Setup
from covlab.launch.kept import kept_for_parts
from metrics.candidates import examples_of
from metrics.evaluators import HeldOut
from tasks import categorical
from tasks.compiling import QUICK
from tasks.drawing import log_of
from tracking.atomic import atomic_write
from training import Phase
from training.feed import keys_of_data, keys_of_step

FILE = "overlap.json"
MOST = 2048
"""Largest number of training prompts drawn for comparison; a larger set is estimated from these."""
RARE = 1e-4
"""Ratio of training prompts to the task's `least_prompts` below which nothing is drawn: the overlap is at
most of this order."""


def among(
    prompts: Int[np.ndarray, "rows prompt"], others: Int[np.ndarray, "others prompt"]
) -> Bool[np.ndarray, " rows"]:
    """Mask of the prompts that equal one of `others` in every token, padding included."""
    if prompts.shape[1] != others.shape[1]:
        return np.zeros(len(prompts), bool)
    known = set(_hashable(others))
    return np.array([row in known for row in _hashable(prompts)], bool)


def _hashable(prompts: Int[np.ndarray, "rows prompt"]) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(prompts, np.int32)]


def training_prompts(phase: Phase, seed: int, count: int, rows: int) -> Int[np.ndarray, "count prompt"]:
    """The first `count` training prompts of a seed in a phase, drawn by the keys of `training.feed`: from the
    phase's fixed set if it has one, else in the order of its batches.

    They are drawn `rows` at a time. With as many rows as the held-out set has examples no further program is
    compiled for the drawing.
    """
    drawing = phase.name, phase.batch_size, phase.dataset_size, tuple(map(float, phase.proposal)), count
    keys, classes = map(np.asarray, _keys_and_classes(*drawing, np.uint32(seed)))
    prompts = [
        # The last rows repeat the first, so that every call has equal shapes.
        examples_of(phase.task, keys[index], classes[index])[0].prompt
        for index in np.resize(np.arange(count), (-(-count // rows), rows))
    ]
    return np.concatenate(prompts)[:count]


@functools.partial(jax.jit, static_argnums=range(5), compiler_options=QUICK)
def _keys_and_classes(
    name: str,
    batch_size: int,
    dataset_size: int | None,
    proposal: tuple[float, ...],
    count: int,
    seed: Int[Array, ""],
) -> tuple[UInt32[Array, "count words"], Int[Array, " count"]]:
    """Words of the keys, and the classes, that `Task.sample` gives to `sample_group` in
    `training.feed.batch_of_step`."""
    if dataset_size is None:
        steps = jnp.arange(-(-count // batch_size))
        of_step = jax.vmap(lambda step: keys_of_step(name, batch_size, seed, step))
        keys = of_step(steps).reshape(-1)[:count]
    else:
        keys = keys_of_data(name, seed, jnp.arange(count))
    of_class, own = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
    return jax.random.key_data(own), jax.vmap(categorical, (0, None))(of_class, log_of(proposal))


def overlap(phase: Phase, held_out: HeldOut, seed: int) -> dict[str, Any]:
    """Held-out prompts that a phase trains on, for one seed.

    Of n training prompts, m are drawn again. `share` is the weight of the held-out prompts that are among
    the training prompts. It is counted if m = n, else estimated class by class: a fraction h of the m draws
    falls on the D different held-out prompts of a class, and if these are about equally likely, n draws meet
    a fraction 1 - (1 - h/D)^n of them. Nothing is drawn if the task has only one prompt, or so many that the
    share is 0 to four digits.

    Returns:
        `held_out` (number of prompts), `different` (number of different prompts), `training` (n), `drawn`
        (m), `share`, `counted` (True if the share is exact), and, for a task with several classes whose
        prompts were drawn, `classes` (class -> share of its held-out prompts).
    """
    count = phase.steps * phase.batch_size if phase.dataset_size is None else phase.dataset_size
    drawn = min(count, MOST)
    prompts = held_out.flat(held_out.batches.example.prompt)
    different = len(set(_hashable(prompts)))
    facts: dict[str, Any] = {
        "held_out": len(prompts),
        "different": different,
        "training": count,
        "drawn": drawn,
    }
    if count < RARE * phase.task.least_prompts:
        return facts | {"drawn": 0, "share": 0.0, "counted": False}
    if not drawn:
        return facts | {"share": 0.0, "counted": True}
    if different == 1 < len(prompts):
        # A task with a single prompt overlaps by design.
        return facts | {"drawn": 0, "share": 1.0, "counted": False}
    trained = training_prompts(phase, seed, drawn, held_out.num_examples)
    met = among(prompts, trained)
    estimated = drawn < count and bool(met.any())
    classes, share = {}, 0.0
    for group in np.unique(held_out.groups):
        members = held_out.groups == group
        own = float(met[members].mean())
        if estimated:
            rate = among(trained, prompts[members]).mean() / len(set(_hashable(prompts[members])))
            own = float(-np.expm1(count * np.log1p(-min(rate, 1 - 1e-12))))
        classes[phase.task.groups[group]] = round(own, 4)
        share += float(own * np.sum(held_out.weights[members]) / np.sum(held_out.weights))
    if len(classes) > 1:
        facts["classes"] = classes
    return facts | {"share": round(share, 4), "counted": drawn == count}


def kept_overlap(phase: Phase, held_out: HeldOut, seed: int) -> dict[str, Any]:
    """`overlap`, whose result is kept for the next start."""
    drawing = (
        phase.name,
        phase.task,
        phase.steps,
        phase.batch_size,
        phase.dataset_size,
        phase.class_proposal,
    )
    prompts = held_out.flat(held_out.batches.example.prompt)
    kept = kept_for_parts("overlap", drawing, prompts, held_out.groups, held_out.weights, seed)
    data = kept.load("overlap")
    if data is not None:
        try:
            return dict(json.loads(data))
        except (ValueError, TypeError) as error:
            kept.drop("overlap", f"{type(error).__name__}: {error}")
    facts = overlap(phase, held_out, seed)
    kept.save("overlap", json.dumps(facts).encode())
    return facts


def note_overlap(
    path: Path, setup: Setup, held_out: Sequence[HeldOut], say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Write the overlap of every phase's training prompts with the held-out set to `overlap.json` of a run,
    and print one line per phase with an overlap. A continued run reads the file.

    Returns:
        Phase name -> `overlap` for the first seed.
    """
    file = path / FILE
    asked = {phase.name: [phase.steps, phase.batch_size, phase.dataset_size] for phase in setup.phases}
    try:
        stored: dict[str, Any] = json.loads(file.read_bytes())
        if stored["phases"] == asked:
            return dict(stored["overlap"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    counts = {}
    for phase, held in zip(setup.phases, held_out, strict=True):
        counts[phase.name] = facts = kept_overlap(phase, held, setup.seeds[0])
        # A task with a single prompt overlaps by design.
        if facts["share"] and facts["different"] > 1:
            how = "" if facts["counted"] else f", estimated from {facts['drawn']} of them"
            about = "" if facts["counted"] else "about "
            say(
                f"phase {phase.name}: {about}{_percent(facts['share'])} of the held-out prompts are among "
                f"its {facts['training']} training prompts{how}{_by_class(phase, facts)}: its numbers are of "
                "prompts that were partly trained on"
            )
    atomic_write(file, json.dumps({"phases": asked, "overlap": counts}, indent=1).encode() + b"\n")
    return counts


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"


def _by_class(phase: Phase, facts: Mapping[str, Any]) -> str:
    """The shares of all classes, where the mixture's share says nothing of some: classes of probability 0."""
    if all(phase.task.group_probs) or "classes" not in facts:
        return ""
    return f" ({', '.join(f'class {name}: {_percent(own)}' for name, own in facts['classes'].items())})"
