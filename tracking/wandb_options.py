"""Names of the W&B run, and the mode in which W&B is reached without a prompt.

Values that W&B 0.31 would refuse after training has begun are refused here. The rules are those of
`wandb.sdk.wandb_settings.Settings` (`validate_project`, `validate_run_id`, `validate_run_tags`). W&B's server
limits other names to 128 characters, as projects.
"""

from __future__ import annotations

import dataclasses
import netrc
import os
from typing import Any, Literal
from urllib.parse import urlsplit

Mode = Literal["online", "offline", "disabled"]
MODES = ("auto", "online", "offline", "disabled")
LONGEST = 128
LONGEST_TAG = 64
_VARIABLES = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "notes": "WANDB_NOTES",
    "tags": "WANDB_TAGS",
    "run_id": "WANDB_RUN_ID",
}
_REFUSED = ("WANDB_FORK_FROM", "WANDB_RESUME_FROM")
AGENT = "WANDB_SWEEP_ID"
"""Environment variable that the agent of a W&B sweep sets for the programs it starts."""
_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")


@dataclasses.dataclass(frozen=True)
class WandbOptions:
    """Names of the W&B run and access to W&B.

    Attributes:
        project: None is WANDB_PROJECT, else "covlab"; see `obeying_environment`.
        mode: "auto" follows the environment variable WANDB_MODE, else is "online" if a key is configured
            (WANDB_API_KEY, WANDB_IDENTITY_TOKEN_FILE or netrc) and "offline" otherwise. "online" without a
            key is "offline" with a warning, because W&B would prompt for a key.
        run_id: id of the W&B run; None generates an id.
        per_seed: True for one W&B run per seed, False for one with median and quantiles over the seeds.

    Timeouts are in seconds.

    Raises:
        ValueError: `mode` is unknown, a timeout is not positive, or W&B would refuse a name, a tag or the id.
    """

    mode: str = "auto"
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    job_type: str | None = "train"
    name: str | None = None
    tags: tuple[str, ...] = ()
    notes: str | None = None
    run_id: str | None = None
    per_seed: bool = False
    init_timeout: float = 30.0
    finish_timeout: float = 120.0

    def __post_init__(self) -> None:
        # A local import, because `tasks` loads JAX, which reading runs does not use.
        from tasks.checks import real

        if self.mode not in MODES:
            raise ValueError(f"tracking mode is {self.mode!r}: one of {', '.join(MODES)} is valid")
        for field in ("init_timeout", "finish_timeout"):
            real(field, getattr(self, field), above=0)
        if self.mode != "disabled":
            self._check()

    def _check(self) -> None:
        """Refuse, in one line, values that W&B would refuse."""
        for field in ("project", "entity", "group", "job_type", "name", "run_id"):
            value = getattr(self, field)
            if value is None:
                continue
            forbidden = {"project": "/\\#?%:", "entity": "/\\#?%:", "run_id": "/\\#?%:;,'"}.get(field, "")
            # Names of runs per seed end in the seed.
            room = LONGEST - (len(f"-seed{2**31}") if field == "name" and self.per_seed else 0)
            text = str(value)
            fits = text.strip() == text and 1 <= len(text) <= room and not set(text) & set(forbidden)
            if not isinstance(value, str) or not fits:
                without = f" without {' '.join(forbidden)}" if forbidden else ""
                raise ValueError(
                    f"tracking.{field}: {_short(value)}; W&B takes a text of 1 to {room} characters{without},"
                    " with no space at its ends"
                )
        for tag in self.tags:
            if not isinstance(tag, str) or not 1 <= len(tag) <= LONGEST_TAG:
                raise ValueError(
                    f"tracking.tags: {_short(tag)}; W&B takes texts of 1 to {LONGEST_TAG} characters"
                )
        if self.notes is not None and not isinstance(self.notes, str):
            raise ValueError(f"tracking.notes: {self.notes!r}; W&B takes a text")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}...{text[-10:]} ({len(str(value))} characters)"


def obeying_environment(options: WandbOptions) -> WandbOptions:
    """`options` completed by W&B's environment variables.

    WANDB_PROJECT, WANDB_ENTITY, WANDB_NOTES, WANDB_TAGS (separated by commas) and WANDB_RUN_ID fill open
    options. WANDB_RUN_GROUP, WANDB_NAME and WANDB_JOB_TYPE replace values derived by the program. The default
    project is "covlab".

    Raises:
        ValueError: a variable contradicts an option, a variable requires what a mirror cannot do
            (WANDB_RUN_ID with a run per seed, forks, WANDB_RESUME other than "allow" and "auto"), or W&B
            would refuse a value.
    """
    if options.mode == "disabled" or resolve_mode(options.mode) == "disabled":
        return options
    given: dict[str, Any] = {}
    for field, variable in _VARIABLES.items():
        value: Any = os.environ.get(variable) or None
        if value is not None and field == "tags":
            value = tuple(tag.strip() for tag in value.split(","))
        own = getattr(options, field)
        if value is not None and own not in (None, (), value):
            raise ValueError(f"tracking.{field}: {own!r} and {variable}={os.environ[variable]!r} differ")
        given[field] = own if value is None else value
    derived = {"group": "WANDB_RUN_GROUP", "name": "WANDB_NAME", "job_type": "WANDB_JOB_TYPE"}
    for field, variable in derived.items():
        given[field] = os.environ.get(variable) or getattr(options, field)
    for variable in _REFUSED:
        if os.environ.get(variable):
            raise ValueError(f"{variable}: a mirror continues its own W&B run; unset it")
    if os.environ.get("WANDB_RESUME") not in (None, "", "allow", "auto"):
        raise ValueError(
            f"WANDB_RESUME: {os.environ['WANDB_RESUME']!r}; a mirror continues a W&B run that is there and "
            "starts one that is not: allow, or unset it"
        )
    if given["run_id"] is not None and options.per_seed:
        raise ValueError(
            f"WANDB_RUN_ID: {given['run_id']!r} names one W&B run, but tracking.per_seed=true makes one for "
            "each seed"
        )
    given["project"] = given["project"] or "covlab"
    return dataclasses.replace(options, **given)


def require_no_run_id(mode: str, what: str) -> None:
    """Refuse WANDB_RUN_ID if `what`, for example "the sweep", creates several W&B runs.

    Raises:
        ValueError: WANDB_RUN_ID is set, and `mode` mirrors.
    """
    given = os.environ.get("WANDB_RUN_ID")
    if given and resolve_mode(mode) != "disabled":
        raise ValueError(f"WANDB_RUN_ID: {given!r} names one W&B run, but {what} makes several: unset it")


def has_credentials() -> bool:
    """True if the environment or netrc has a key, so that W&B does not prompt."""
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
    """Effective mode for `mode`, one of `MODES`, in this environment."""
    if mode == "auto":
        mode = os.environ.get("WANDB_MODE", "auto")
    if mode == "disabled":
        return "disabled"
    if mode == "offline":
        return "offline"
    return "online" if has_credentials() else "offline"
