"""Several processes that compute one program: who leads, what they tell each other, what they agree on.

JAX runs the same program on every process and waits wherever they communicate, so that all of them have to
take the same decisions. What only one of them can know (a signal, the clock, a file) is said with `share`,
which goes through JAX's coordination service and touches no device. The first process leads: it alone
reads and writes files.
"""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import jax
import numpy as np

# JAX has no public name for the coordination service, nor for the process number before devices are started.
from jax._src.distributed import global_state
from jax.experimental import multihost_utils

_POLL_MS = 2000
_rounds = itertools.count()


class Ended(Exception):
    """Another process leaves, and waits in `jax.distributed.shutdown` for this one; `status` is the exit
    status that it asks for."""

    def __init__(self, status: int) -> None:
        super().__init__(f"another process ended with status {status}")
        self.status = status


def several() -> bool:
    """Whether this process is one of several."""
    return global_state.num_processes > 1


def leads() -> bool:
    """Whether this process is the first, or the only one."""
    return global_state.process_id == 0


def share(value: Any, patience: float | None = None) -> list[Any]:
    """The JSON values that all processes share at this point, in their order; all must call it alike.

    A process that is alone gets its own value back. A process that dies ends the others that wait for it,
    by JAX's heartbeat.

    Raises:
        Ended: a process called `end` instead.
        TimeoutError: after `patience` seconds; None waits as long as it takes.
    """
    if not several():
        return [value]
    return [given["value"] for given in _exchange({"value": value}, patience)]


def end(status: int, patience: float) -> bool:
    """Make the other processes leave with `status` where they next `share`; whether all came in time.

    Where all did, the coordination service is shut down: this process may go on alone.
    """
    if not several() or global_state.client is None:
        return True
    try:
        _exchange({"end": status}, patience)
    except Ended:
        pass
    except TimeoutError:
        return False
    jax.distributed.shutdown()
    return True


def broadcast(tree: Any) -> Any:
    """The leader's arrays, bit for bit, on every process; the others give arrays of the same shapes.

    One array at a time, so that no device holds more than one of them in addition.
    """
    return jax.tree.map(_broadcast, tree) if several() else tree


def from_leader(tree: Any, like: Any) -> Any:
    """The leader's arrays on every process. The others give None, and only the structure and the types of
    `like`: its shapes need not be the leader's."""
    if not several():
        return tree
    leaves, structure = jax.tree.flatten(like)
    sizes = share(None if tree is None else [np.shape(leaf) for leaf in jax.tree.leaves(tree)])[0]
    empty = [np.zeros(size, leaf.dtype) for size, leaf in zip(sizes, leaves, strict=True)]
    own = empty if tree is None else [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return jax.tree.unflatten(structure, broadcast(own))


def _broadcast(own: np.ndarray) -> np.ndarray:
    # As bytes, because a sum with the others' zeros would lose the sign of a zero.
    sent = multihost_utils.broadcast_one_to_all(np.ascontiguousarray(own).reshape(-1).view(np.uint8))
    return np.asarray(sent, np.uint8).view(own.dtype).reshape(own.shape)


def _exchange(message: dict[str, Any], patience: float | None) -> list[dict[str, Any]]:
    number, client = next(_rounds), global_state.client
    if client is None:
        raise RuntimeError("the other processes have been dismissed")
    own = f"covlab/{number}/{global_state.process_id}"
    client.key_value_set(own, json.dumps(message))
    deadline = None if patience is None else time.monotonic() + patience
    found = []
    for process in range(global_state.num_processes):
        found.append(_wait(client, f"covlab/{number}/{process}", deadline))
        if "end" in found[-1] and "end" not in message:
            raise Ended(found[-1]["end"])
    if number:
        # Who has read this round's values has read the last round's.
        client.key_value_delete(f"covlab/{number - 1}/{global_state.process_id}")
    return found


def _wait(client: Any, key: str, deadline: float | None) -> dict[str, Any]:
    while True:
        try:
            found: dict[str, Any] = json.loads(client.blocking_key_value_get(key, _POLL_MS))
            return found
        except jax.errors.JaxRuntimeError as error:
            # In short waits, because Python hears no signal during one.
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(f"no answer at {key}")
