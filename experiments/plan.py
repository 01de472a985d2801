"""Planning a run on hardware that is not here: python -m experiments.plan target=v5e:2x2 seeds=4.

Compiles every program of the run with the compiler of the target, which needs no device, and prints a page:
memory against what a device has, FLOP, bytes, the compiler's estimate of the time, the roofline, the number
of seeds that fit, and the hours of the whole run.
"""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from covlab.launch.cli import command

OWN = {"target": "v5e", "claim": None, "out": None, "search": False}
"""Keys of conf/plan.yaml besides those of conf/train.yaml."""


def plan(said: str, config: DictConfig) -> int:
    """Plan one run of experiments.train, and print the page, which shows the command `said`."""
    # Imported here, so that a mistyped key is answered before JAX is loaded.
    from covlab.plan.claims import plan_one
    from tasks.checks import flag

    if config.scale is not None:
        raise ValueError(f"scale: {config.scale!r} without a claim; valid: claim=<name>, or no scale")
    make = functools.partial(plan_one, search=flag("search", config.search))
    return _print(make, config, {key: config[key] for key in OWN}, said)


def plan_claim(name: str, own: Mapping[str, Any], said: str, config: DictConfig) -> int:
    """Plan the training runs of a claim, and print the page, which shows the command `said`."""
    from covlab.plan.claims import plan_all

    if str(own["search"]).lower() != "false":
        raise ValueError(f"search: {own['search']} with a claim; valid: false, or one run without claim=")
    return _print(functools.partial(plan_all, name), config, own, said)


def _print(make: Any, config: DictConfig, own: Mapping[str, Any], said: str) -> int:
    from tracking.atomic import atomic_write

    text = make(config, str(own["target"]), said, lambda line: print(line, file=sys.stderr, flush=True))
    if own["out"] is not None:
        path = Path(str(own["out"]))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, text.encode())
        except OSError as error:
            raise ValueError(
                f"out: {str(path)!r}: {error.strerror}; valid: a file that can be written"
            ) from None
    print(text, end="")
    return 0


def main() -> None:
    """The command: one run, or with claim= the runs of a claim, whose settings are then valid."""
    said = shlex.join(["covlab", "plan", *sys.argv[1:]])
    given = dict(text.split("=", 1) for text in sys.argv[1:] if text.partition("=")[0] in OWN and "=" in text)
    name = given.get("claim", "null")
    if name == "null" or {"--help", "-h", "--shell-completion", "-sc"} & set(sys.argv):
        command("plan", functools.partial(plan, said), makes_runs=False)()
        return
    whole = sys.argv
    sys.argv = [text for text in whole if text.partition("=")[0] not in OWN]
    try:
        from covlab.plan.claims import known_claim

        try:
            claim = known_claim(name)
        except ValueError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        own = {**OWN, **given}
        command(
            claim.name,
            functools.partial(plan_claim, name, own, said),
            makes_runs=False,
            module="experiments.plan",
        )()
    finally:
        sys.argv = whole


if __name__ == "__main__":
    main()
