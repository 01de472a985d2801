"""Training with marks at the ends of the parts: python -m benchmarks.timeline FILE STARTED key=value ...

The real entry point runs in this process. `FILE` gets a JSON object: `marks`, seconds from STARTED (since
1970) to the end of each part, `cpu`, seconds of this process on all cores by then, and `compilation`, seconds
of each kind of compiling work before each mark, by JAX's events. Used by `benchmarks.startup`.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

KINDS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling",
    "/jax/compilation_cache/cache_retrieval_time_sec": "reading_cache",
}


def covered(spans: list[tuple[float, float]], until: float) -> float:
    """Length of the union of `spans` up to `until`, so that nested tracing counts once.

    >>> covered([(0.0, 2.0), (1.0, 3.0), (5.0, 9.0)], 6.0)
    4.0
    """
    total, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        first, last = max(first, end), min(last, until)
        if last > first:
            total += last - first
            end = last
    return total


class Timeline:
    """Marks and compilation events of this process, in seconds since `started`."""

    def __init__(self, started: float) -> None:
        self.started = started
        self.marks: dict[str, float] = {}
        self.cpu: dict[str, float] = {}
        self.spans: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS.values()}

    def mark(self, name: str) -> None:
        """Record the first time at which `name` is over."""
        if name not in self.marks:
            self.marks[name] = time.time() - self.started
            used = os.times()
            self.cpu[name] = used.user + used.system

    def compiled(self, event: str, duration_secs: float, **_: Any) -> None:
        """A listener of JAX's events."""
        if event in KINDS:
            now = time.time() - self.started
            self.spans[KINDS[event]].append((now - duration_secs, now))

    def after(self, owner: type, method: str, name: str) -> None:
        """Mark `name` when `owner.method` returns."""
        self._wrap(owner, method, _nothing, lambda *_, **__: self.mark(name))

    def before(self, owner: type, method: str, name: str) -> None:
        """Mark `name` when `owner.method` is called."""
        self._wrap(owner, method, lambda *_, **__: self.mark(name), _nothing)

    def steps(self, owner: type, method: str) -> None:
        """Mark each recorded training step when `owner.method` gets its timing."""

        def note(_: Any, record: dict[str, Any]) -> None:
            if record.get("event") == "step":
                self.mark(f"step {record['step']}")

        self._wrap(owner, method, note, _nothing)

    def _wrap(self, owner: type, method: str, first: Callable[..., None], then: Callable[..., None]) -> None:
        original = getattr(owner, method)

        @functools.wraps(original)
        def called(*args: Any, **named: Any) -> Any:
            first(*args, **named)
            result = original(*args, **named)
            then(*args, **named)
            return result

        setattr(owner, method, called)

    def record(self) -> dict[str, Any]:
        """Contents of the file."""
        compilation = {
            mark: {kind: covered(spans, until) for kind, spans in self.spans.items()}
            for mark, until in self.marks.items()
        }
        return {"marks": self.marks, "cpu": self.cpu, "compilation": compilation}


def _nothing(*_: Any, **__: Any) -> None:
    """No mark."""


def main() -> None:
    """Run the entry point with marks."""
    target, started = Path(sys.argv[1]), float(sys.argv[2])
    timeline = Timeline(started)
    timeline.mark("interpreter")
    import jax.monitoring

    from covlab.launch.build import Setup
    from experiments import train
    from tracking import RunSink
    from training import Trainer

    timeline.mark("imports")
    jax.monitoring.register_event_duration_secs_listener(timeline.compiled)
    timeline.after(Setup, "__init__", "configuration")
    timeline.before(Setup, "held_out", "run directory")
    timeline.after(Setup, "held_out", "held-out set")
    timeline.before(Trainer, "run", "files, mirror, program")
    timeline.steps(RunSink, "timing")
    sys.argv[1:] = sys.argv[3:]
    atexit.register(lambda: target.write_text(json.dumps(timeline.record()), encoding="utf-8"))
    train.main()


if __name__ == "__main__":
    main()
