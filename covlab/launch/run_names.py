"""Names of run directories, made from the overrides of a command."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import DictConfig, OmegaConf

VOLATILE = (
    *("tracking", "resume", "checkpoint", "root", "group", "name", "devices", "data_parallel"),
    "early_warning",
)
"""Settings that may differ when a run is continued, because they change no number of training or
evaluation."""

COMMON = ("tracking", "name", "root", "seed", "resume")
"""Keys of every command, see `conf/common/keys.yaml`."""

LONGEST = 120
"""Largest number of characters of a run's name."""

_UNNAMED = (*VOLATILE, "launcher")
_DIGITS = 8


class RunName(NamedTuple):
    """A directory name, and the digest that it ends in if the overrides did not fit or had to be cleaned.

    `earlier` is the name without the digest, which earlier versions used.
    """

    text: str
    digest: str = ""
    earlier: str = ""


def override_key(override: str) -> str:
    """The key of an override without prefix signs and package.

    Example:
        >>> override_key("+phases.train.steps=3"), override_key("task@graph.task=dyck"), override_key("~zoo")
        ('phases.train.steps', 'task', 'zoo')
    """
    return override.lstrip("+~").partition("=")[0].partition("@")[0]


def run_name(overrides: Sequence[str], swept: Collection[str] = ()) -> RunName:
    """A readable name made from overrides, with a digest that keeps it unique if it was cleaned or cut.

    Overrides that change no number are left out. The others are sorted. A name longer than `LONGEST` begins
    with the overrides of the keys `swept`, so that overrides shared by a sweep's jobs are cut first.

    Example:
        >>> run_name(["seed=3", "tracking.wandb=disabled", "model=gpt_small"]).text
        'model=gpt_small__seed=3'
    """
    kept = sorted(text for text in overrides if override_key(text).partition(".")[0] not in _UNNAMED)
    text = _cleaned(kept)
    if all(re.fullmatch(r"[\w.=+-]+", part) and "__" not in part for part in kept):
        if len(text) <= LONGEST:
            return RunName(text or "default")
        digest = _digest(text)
        earlier = ""
    else:
        digest = _digest("\n".join(kept))
        earlier = text if len(text) <= LONGEST else f"{text[: LONGEST - _DIGITS - 1]}-{_digest(text)}"
    if len(text) + _DIGITS >= LONGEST:
        text = _cleaned(sorted(kept, key=lambda part: override_key(part) not in swept))
    return RunName(f"{text[: LONGEST - _DIGITS - 1]}-{digest}", digest, earlier)


def run_path(config: DictConfig, overrides: Sequence[str], swept: Collection[str] = ()) -> Path:
    """`<root>/<group>/<name>`; without a name, an existing directory of a run with these overrides, else a
    new one named by `run_name`.

    Raises:
        ValueError: a name or group that is not a plain directory name.
    """
    name = None if config.name is None else str(config.name)
    made = run_name(overrides, swept)
    for field, value in (("name", made.text if name is None else name), ("group", str(config.group))):
        if not re.fullmatch(r"[\w][\w.,=+-]*", value):
            raise ValueError(f"{field}: {value!r} is not a directory name of letters, digits and . , = + - _")
    folder = Path(config.root) / str(config.group)
    if name is not None:
        return folder / name
    if made.digest and folder.is_dir():
        for existing in sorted(folder.glob(f"*-{made.digest}")):
            return existing
        if made.earlier and _agrees(folder / made.earlier, config, overrides):
            return folder / made.earlier
    return folder / made.text


def _cleaned(parts: Sequence[str]) -> str:
    # A comma within a value looks like one between overrides; the digest tells them apart.
    return re.sub(r"[^\w.=+-]+", "-", "__".join(parts).replace(",", "__"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _agrees(path: Path, config: DictConfig, overrides: Sequence[str]) -> bool:
    """True if `path` holds a run in which no override has another value."""
    try:
        there: Any = OmegaConf.create(yaml.safe_load((path / "config.yaml").read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    for key in map(override_key, overrides):
        if key.partition(".")[0] in _UNNAMED:
            continue
        old, new = (OmegaConf.select(side, key, throw_on_missing=False) for side in (there, config))
        if old is not None and new is not None and _plain(old) != _plain(new):
            return False
    return True


def _plain(value: Any) -> Any:
    if OmegaConf.is_config(value):
        return OmegaConf.to_container(value, resolve=True)
    return os.path.abspath(value) if isinstance(value, str) and os.sep in value else value
