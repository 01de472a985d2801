"""What the W&B run is called and whether W&B can be reached without asking anybody anything."""

from __future__ import annotations

import dataclasses
import netrc
import os
from typing import Literal
from urllib.parse import urlsplit

from tasks.checks import real

Mode = Literal["online", "offline", "disabled"]
MODES = ("auto", "online", "offline", "disabled")
_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")


@dataclasses.dataclass(frozen=True)
class WandbOptions:
    """What the W&B run is called and how it is reached.

    `mode`: "auto" follows the environment variable WANDB_MODE, else is online where a key is configured
    (WANDB_API_KEY, WANDB_IDENTITY_TOKEN_FILE or netrc) and offline where none is; "online" without a key is
    offline with a warning, because W&B would ask for one. `per_seed`: one W&B run a seed in place of one with
    median and quantiles over the seeds. Timeouts in seconds.

    Raises:
        ValueError: `mode` is unknown or a timeout is not positive.
    """

    mode: str = "auto"
    project: str = "covlab"
    entity: str | None = None
    group: str | None = None
    job_type: str | None = "train"
    name: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    per_seed: bool = False
    init_timeout: float = 30.0
    finish_timeout: float = 120.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"tracking mode is {self.mode!r}: one of {', '.join(MODES)} is valid")
        for field in ("init_timeout", "finish_timeout"):
            real(field, getattr(self, field), above=0)


def has_credentials() -> bool:
    """Whether W&B would find a key in the environment or in netrc, so that it has nothing to ask."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    base = urlsplit(os.environ.get("WANDB_BASE_URL", "")).netloc
    hosts = _HOSTS if not base or base in _HOSTS else (base,)
    for file in [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]:
        try:
            entries = netrc.netrc(os.path.expanduser(file))
        except (OSError, netrc.NetrcParseError):
            continue
        return any((entry := entries.authenticators(host)) and entry[2] for host in hosts)
    return False


def resolve_mode(mode: str) -> Mode:
    """What `mode`, one of `MODES`, comes to here."""
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE", "auto")
    if mode == "disabled":
        return "disabled"
    if mode == "offline":
        return "offline"
    return "online" if has_credentials() else "offline"
