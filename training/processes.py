"""Communication between several processes that run one program.

JAX runs one program on all processes and waits wherever they communicate, so that all processes have to take
the same decisions. `share` passes on what only one process can know (a signal, the clock, a file). It uses
JAX's coordination service and touches no device. The first process is the leader: it alone reads and writes
files.
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
    """Another process ends and waits for this one in `jax.distributed.shutdown`.

    Attributes:
        status: exit status that the other process asks for.
    """

    def __init__(self, status: int) -> None:
        super().__init__(f"another process ended with status {status}")
        self.status = status


def several() -> bool:
    """True if this process is one of several."""
    return global_state.num_processes > 1


def leads() -> bool:
    """True if this process is the first, or the only one."""
    return global_state.process_id == 0


def share(value: Any, patience: float | None = None) -> list[Any]:
    """JSON values of all processes, in the order of the processes; all processes must make the same calls.

    A single process gets its own value back. If a process dies, JAX's heartbeat ends the processes that wait
    for it.

    Raises:
        Ended: a process called `end` instead.
        TimeoutError: `patience` seconds have passed; None waits without limit.
    """
    if not several():
        return [value]
    return [given["value"] for given in _exchange({"value": value}, patience)]


def end(status: int, patience: float) -> bool:
    """Make the other processes exit with `status` at their next `share`; True if all came in time.

    If all came, the coordination service is shut down, and this process may go on alone.
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
    """The leader's arrays, bit for bit, on every process; the others give arrays of equal shapes.

    Arrays are sent one at a time, so that no device holds more than one additional array.
    """
    return jax.tree.map(_broadcast, tree) if several() else tree


def from_leader(tree: Any, like: Any) -> Any:
    """The leader's arrays on every process.

    Args:
        tree: the arrays on the leader, None on the other processes.
        like: a tree with the structure and the types of the arrays; its shapes may differ.
    """
    if not several():
        return tree
    leaves, structure = jax.tree.flatten(like)
    sizes = share(None if tree is None else [np.shape(leaf) for leaf in jax.tree.leaves(tree)])[0]
    empty = [np.zeros(size, leaf.dtype) for size, leaf in zip(sizes, leaves, strict=True)]
    own = empty if tree is None else [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return jax.tree.unflatten(structure, broadcast(own))


def _broadcast(own: np.ndarray) -> np.ndarray:
    # Sent as bytes, because a sum with the zeros of other processes would lose the sign of a zero.
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
        # A process that has read the values of this round has read those of the round before.
        client.key_value_delete(f"covlab/{number - 1}/{global_state.process_id}")
    return found


def _wait(client: Any, key: str, deadline: float | None) -> dict[str, Any]:
    while True:
        try:
            found: dict[str, Any] = json.loads(client.blocking_key_value_get(key, _POLL_MS))
            return found
        except jax.errors.JaxRuntimeError as error:
            # Each wait is short, because Python handles no signal during a wait.
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
        if deadline is not None and time.monotonic() > deadline:
            raise TimeoutError(f"no answer at {key}")
