"""Progress in a notebook: one display, drawn again in place, and nothing on standard error."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from tracking.progress import Progress


class Shell:
    """An interactive shell; that of a notebook belongs to a kernel."""


@pytest.fixture
def displays(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What a notebook shows: for every display its states, one after the other."""
    shown: list[list[str]] = []

    class Handle:
        def __init__(self, bundle: dict[str, str]) -> None:
            shown.append([bundle["text/plain"]])
            self.states = shown[-1]

        def update(self, bundle: dict[str, str], raw: bool) -> None:
            assert raw
            self.states.append(bundle["text/plain"])

    def display(bundle: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        return Handle(bundle)

    shell = Shell()
    shell.kernel = object()  # type: ignore[attr-defined]
    python: Any = types.ModuleType("IPython")
    python.get_ipython = lambda: shell
    python.display = types.ModuleType("IPython.display")
    python.display.display = display
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", python.display)
    return shown


def test_a_notebook_shows_bars_and_messages_in_one_display(
    displays: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    progress = Progress(clock=lambda: now[0])
    for step in range(0, 101, 20):
        progress.update("fine[tune]", step, 100, {"kl": 0.5})
        now[0] += 1
    progress.message("seed 3: loss [nan]")
    progress.update("next", 0, 10)
    progress.close()
    (states,) = displays
    halves = [state for state in states if "40/100" in state]
    assert halves[0].startswith("fine[tune] ")
    assert 0 < halves[0].count("━") < 24
    last = states[-1].splitlines()
    assert last[0] == "seed 3: loss [nan]"
    assert last[1].startswith("fine[tune] " + "━" * 24 + " 100/100")
    assert last[1].endswith("kl 0.5")
    assert last[2].startswith("next ")
    assert "".join(capsys.readouterr()) == ""


def test_a_shell_without_a_kernel_is_a_terminal(
    displays: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    del sys.modules["IPython"].get_ipython().kernel
    progress = Progress(interval=0)
    progress.update("train", 1, 2)
    progress.close()
    assert displays == []
    assert capsys.readouterr().err == "train 1/2 (50.0%)\n"
