"""Progress of a run: a bar on a terminal or in a notebook, periodic plain lines elsewhere."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

T = TypeVar("T")

_SECONDS_BETWEEN_DRAWINGS = 0.25


def duration(seconds: float) -> str:
    """Whole seconds as h:mm:ss, for example 0:01:30."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def numbers(info: Mapping[str, float]) -> str:
    """Metrics in one line, with four digits."""
    return "  ".join(f"{name} {value:.4g}" for name, value in info.items())


@dataclass
class _Phase:
    """Position of a phase at the first update in this process, at the last printed line, and now."""

    first: tuple[int, float]
    printed: tuple[int, float]
    step: int


class Progress:
    """Progress of a run, phase by phase, on one stream (standard error by default).

    The rate counts from the first update of a phase, which follows compilation and the reading of the
    checkpoint, so neither distorts the time left. A closed stream (a closed terminal) silences the display
    and never stops the run.

    Args:
        show: False for no display; messages are still printed.
        interval: seconds between plain lines if the stream is not a terminal; the first and the last update
            of a phase are always printed.
        stream: output stream.
        clock: monotonic time in seconds.

    Raises:
        ValueError: `interval` is negative.
    """

    def __init__(
        self,
        show: bool = True,
        interval: float = 30.0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # A local import, because `tasks` loads JAX, which reading runs does not use.
        from tasks.checks import real

        real("interval", interval, least=0)
        self._stream = sys.stderr if stream is None else stream
        self._show = show
        self._interval = interval
        self._clock = clock
        self._phases: dict[str, _Phase] = {}
        notebook = show and stream is None and in_notebook()
        self._bar = (
            _Bar(self._stream, clock, notebook) if show and (notebook or self._stream.isatty()) else None
        )

    def update(self, phase: str, step: int, total: int, info: Mapping[str, float] | None = None) -> None:
        """Show that `step` of the `total` steps of `phase` are done, with the metrics `info`."""
        if not self._show:
            return
        try:
            if self._bar is not None:
                self._bar.update(phase, step, total, numbers(info or {}))
            else:
                self._line(phase, step, total, numbers(info or {}))
        except (OSError, ValueError):
            # Writing to a closed file object raises a ValueError.
            self.close()

    def waiting(self, phase: str, step: int, total: int, text: str) -> None:
        """Show what `phase` waits for at `step`: beside the bar until the next update, elsewhere as a line.

        The time until the next update counts for no rate.
        """
        if not self._show:
            return
        try:
            if self._bar is not None:
                self._bar.update(phase, step, total, text, at_once=True)
            else:
                print(f"{phase} {step}/{total}  {text}", file=self._stream, flush=True)
        except (OSError, ValueError):
            self.close()

    def over(
        self, phase: str, items: Iterable[T], info: Callable[[T], Mapping[str, float]] | None = None
    ) -> Iterator[T]:
        """The items, one after the other, each a step of `phase`; `info` says what is shown of an item."""
        every = list(items)
        for done, item in enumerate(every):
            self.update(phase, done, len(every), info(item) if info else None)
            yield item
        self.update(phase, len(every), len(every))

    def message(self, text: str) -> None:
        """Print one line without breaking the bar."""
        try:
            if self._bar is not None:
                self._bar.message(text)
            else:
                print(text, file=self._stream, flush=True)
        except (OSError, ValueError):
            self.close()

    def close(self) -> None:
        """Restore the terminal. Idempotent."""
        bar, self._bar, self._show = self._bar, None, False
        if bar is not None:
            with contextlib.suppress(OSError, ValueError):
                bar.close()

    def _line(self, phase: str, step: int, total: int, text: str) -> None:
        now = self._clock()
        seen = self._phases.get(phase)
        if seen is None:
            seen = self._phases[phase] = _Phase((step, now), (step, now), step)
        elif step == seen.step or (step < total and now - seen.printed[1] < self._interval):
            return
        # On a shared machine the speed changes, and a mean since the start would lag.
        steps, seconds = step - seen.printed[0], now - seen.printed[1]
        parts = [f"{phase} {step}/{total} ({step / max(total, 1):.1%})"]
        if steps > 0 and seconds > 0:
            rate = steps / seconds
            parts.append(f"{rate:.3g} steps/s")
            parts.append(f"elapsed {duration(now - seen.first[1])}")
            parts.append(f"left {duration((total - step) / rate)}")
        print("  ".join([*parts, text]).rstrip(), file=self._stream, flush=True)
        seen.printed, seen.step = (step, now), step


def in_notebook() -> bool:
    """True in a kernel that shows displays, such as Jupyter's; False on a terminal, IPython's included."""
    python = sys.modules.get("IPython")
    return python is not None and hasattr(python.get_ipython(), "kernel")


class _Bar:
    """Display on a terminal or in a notebook, one bar per phase."""

    def __init__(self, stream: TextIO, clock: Callable[[], float], notebook: bool = False) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        kind: type[RichProgress] = RichProgress
        if notebook:
            from tracking.notebook import NotebookProgress

            kind = NotebookProgress
        console: Console = Console(file=stream)
        self._progress = kind(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[info]}"),
            console=console,
            # A drawing thread would slow the training and fail with an error when the terminal closes.
            auto_refresh=False,
        )
        say = functools.partial(console.print, markup=False, highlight=False, soft_wrap=True)
        self.message: Callable[[str], None] = getattr(self._progress, "message", say)
        self._tasks: dict[str, TaskID] = {}
        self._clock = clock
        self._drawn = -math.inf
        self._progress.start()

    def update(self, phase: str, step: int, total: int, info: str, at_once: bool = False) -> None:
        from rich.markup import escape

        if phase not in self._tasks:
            # Initial `completed` does not count as speed, as a resumed run begins in the middle.
            self._tasks[phase] = self._progress.add_task(
                escape(phase), completed=step, total=total, rate="", info=escape(info)
            )
        task = self._tasks[phase]
        self._progress.update(task, completed=step, total=total, info=escape(info))
        speed = self._progress.tasks[self._progress.task_ids.index(task)].speed
        if speed:
            self._progress.update(task, rate=f"{speed:.3g} steps/s")
        if at_once or step >= total or self._clock() - self._drawn >= _SECONDS_BETWEEN_DRAWINGS:
            self._progress.refresh()
            self._drawn = self._clock()

    def close(self) -> None:
        self._progress.stop()
