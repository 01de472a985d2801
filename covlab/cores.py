"""Cores of this machine that a process may use."""

from __future__ import annotations

import os


def usable_cores() -> tuple[int, ...]:
    """Numbers of the cores that this process may use, ascending; all of the machine where the system does not
    say."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))
