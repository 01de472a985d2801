"""Commands in this process, for tests."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra


@dataclasses.dataclass(frozen=True)
class Ended:
    """A command's exit status, and its texts on standard output and error."""

    status: int
    out: str
    err: str


def call(main: Callable[[], None], arguments: Sequence[str], folder: Path) -> Ended:
    """Run a command's `main` with these arguments in `folder`; signal handlers are put back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    out, err = io.StringIO(), io.StringIO()
    GlobalHydra.instance().clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["command", *arguments])
        patch.chdir(folder)
        # Set by a command for the rest of its process.
        patch.setitem(os.environ, "HYDRA_FULL_ERROR", "1")
        try:
            with (
                contextlib.redirect_stdout(out),
                contextlib.redirect_stderr(err),
                pytest.raises(SystemExit) as ended,
            ):
                main()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())
