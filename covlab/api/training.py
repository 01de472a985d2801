"""Training a composed configuration in this process, as the commands train."""

from __future__ import annotations

import contextlib
import gc
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from covlab.launch.composing import Composed
from covlab.launch.stopping import STOP_SIGNALS


def train_composed(wanted: Composed) -> Path:
    """The directory of the trained run.

    Raises:
        ValueError: an invalid setting, or a directory that holds another run; one line.
    """
    from covlab.launch.runs import train_named

    _check_devices(wanted.config.devices)
    with stoppable() as stop:
        finished = train_named(wanted.config, wanted.overrides, stop())
    # Programs and their arrays lie in cycles, and `configure` has made Python's own collections rare.
    gc.collect()
    return finished.path


def train_from(command: str, wanted: Composed) -> Path:
    """The directory of a run that starts from another, by "train_rl" or "train_value".

    Raises:
        ValueError: as `train_composed`, or an invalid run to start from.
    """
    from covlab.launch import base_model

    spelt_out = {"train_rl": base_model.rl_config, "train_value": base_model.value_config}[command]
    return train_composed(wanted._replace(config=spelt_out(wanted.config)))


def _check_devices(asked: Any) -> None:
    """Refuse more devices than JAX has started with, which a command, a process of its own, would have.

    Raises:
        ValueError: one line.
    """
    import jax
    from jax._src import xla_bridge

    if isinstance(asked, int) and xla_bridge.backends_are_initialized() and asked > jax.local_device_count():
        started = jax.local_device_count()
        raise ValueError(
            f"devices: {asked}; JAX has started with {started} in this process; valid: at most {started}, "
            "or a new process"
        )


@contextlib.contextmanager
def stoppable() -> Iterator[Callable[[], Callable[[], str | None]]]:
    """A context in which stop signals ask a run to save and stop, and after which they act as before.

    It yields a function that installs the handlers, if this is the main thread, and returns the function that
    tells the reason to stop. A signal other than SIGINT is sent once more at the end of the context.
    """
    from covlab.launch.cli import StopRequest

    request = StopRequest()
    before: dict[signal.Signals, Any] = {}

    def install() -> Callable[[], str | None]:
        if not before and threading.current_thread() is threading.main_thread():
            before.update({number: signal.getsignal(number) for number in STOP_SIGNALS})
            request.install()
        return request

    try:
        yield install
    finally:
        for number, handler in before.items():
            # None is the handler of a program in C, which cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if request.reason is not None and request.reason != signal.SIGINT.name:
            signal.raise_signal(signal.Signals[request.reason])
