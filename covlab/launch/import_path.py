"""The place of the current folder on `sys.path`: after the lab's own packages."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder of the lab's packages."""


def search_here_last() -> None:
    """Put the current folder last on `sys.path`.

    Python puts it first for `python -m`, where a `models.py` of the user's would hide the lab's package of
    this name, and leaves it out for a console script. Last, it hides nothing, and the user's own modules can
    still be named as a `_target_`. The folder of the lab itself stays where it is.
    """
    here = Path.cwd()
    if here == ROOT:
        return
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != here] + [str(here)]
