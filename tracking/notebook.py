"""Progress bars in a notebook: one display, drawn again in place."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console
from rich.progress import Progress

_WIDTH = 140


class NotebookProgress(Progress):
    """Rich's bars as the text of a display, with messages above them.

    Rich's own bars in a notebook need ipywidgets, and are not kept when the notebook is saved.
    """

    def start(self) -> None:
        """Do nothing: the display begins with the first drawing."""
        self._handle: Any = None
        self._messages: list[str] = []

    def stop(self) -> None:
        """Draw the last state, which stays in the notebook."""
        self.refresh()

    def message(self, text: str) -> None:
        """Show a line above the bars."""
        self._messages.append(text)
        self.refresh()

    def refresh(self) -> None:
        """Draw the messages and the bars."""
        # IPython is there, since this is a notebook.
        from IPython.display import display

        bundle = {"text/plain": self.text()}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def text(self) -> str:
        """The messages and the bars."""
        file = io.StringIO()
        console = Console(
            file=file, width=_WIDTH, color_system=None, force_jupyter=False, force_terminal=False
        )
        console.print(self.get_renderable())
        lines = [line.rstrip() for line in file.getvalue().splitlines()]
        return "\n".join([*self._messages, *lines]).rstrip()
