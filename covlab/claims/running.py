"""Running claims in turn for the ledger, and copying verdicts and figures to `results/`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from covlab.launch import outside
from covlab.report.verdict import Verdict, VerdictError
from tracking.atomic import atomic_write


def claims() -> dict[str, Any]:
    """Every `CLAIM` of a folder below experiments/, by name."""
    package = importlib.import_module("experiments")
    folders = [entry.name for entry in pkgutil.iter_modules(package.__path__) if entry.ispkg]
    modules = [importlib.import_module(f"experiments.{folder}") for folder in sorted(folders)]
    return {module.CLAIM.name: module.CLAIM for module in modules if hasattr(module, "CLAIM")}


def outside_claims() -> dict[str, Any]:
    """The claims of installed packages, by name.

    Raises:
        ValueError: an entry point whose package cannot be imported or has no CLAIM of the entry's name, or
            whose name is a command of this project.
    """
    found = {}
    for name, module in outside.claim_modules().items():
        entry = f"{outside.CLAIMS}: {name} = '{module}:CLAIM'"
        if importlib.util.find_spec(f"experiments.{name}") is not None:
            raise ValueError(f"{entry}: experiments.{name} exists already; valid: another name")
        try:
            claim: Any = importlib.import_module(module).CLAIM
        except (ImportError, AttributeError) as error:
            raise ValueError(f"{entry} cannot be imported: {' '.join(str(error).split())}") from None
        if getattr(claim, "name", None) != name or getattr(claim, "module", None) != module:
            raise ValueError(f"{entry} is not a Claim of this name and package")
        found[name] = claim
    return found


def known_claims(scale: str) -> tuple[str, ...]:
    """The claims of this project and of installed packages that have this scale: in `Claim.scales`, or as
    experiment/<claim>_<scale>.yaml in conf/ or in a package's folder.

    Raises:
        ValueError: no claim has this scale; the message lists all scales.
    """
    folders = [Path(str(resources.files("conf"))), *outside.config_folders().values()]
    names = [file.name for folder in folders for file in (folder / "experiment").glob("*.yaml")]
    scales: dict[str, list[str]] = {}
    for name, claim in {**claims(), **outside_claims()}.items():
        files = [re.fullmatch(rf"{name}_([^_]+)\.yaml", file) for file in names]
        for known_scale in dict.fromkeys((*claim.scales, *(match[1] for match in files if match))):
            scales.setdefault(known_scale, []).append(name)
    if scale not in scales:
        raise ValueError(f"scale: {scale!r}; valid: one of {', '.join(sorted(scales))}")
    return tuple(sorted(scales[scale]))


def chosen_claims(run: str, scale: str) -> tuple[str, ...]:
    """The claims that `run` names: `all`, or names separated by commas.

    Raises:
        ValueError: a name that is not a claim of this scale.
    """
    known = known_claims(scale)
    if run == "all":
        return known
    names = tuple(dict.fromkeys(run.split(",")))
    for name in names:
        if name not in known:
            raise ValueError(f"run: {name!r} is no claim; valid: all, or some of {', '.join(known)}")
    return names


def run_claims(claims: Sequence[str], scale: str, runs: Path, results: Path | None) -> list[str]:
    """Run `covlab <claim> scale=<scale>` for each claim; returns one line per failure.

    Finished runs are reused, as by the claim's command. A failure does not stop the other claims. Verdicts
    and figures are copied to <results>/<claim>_<scale>, unless `results` is None.

    Raises:
        KeyboardInterrupt: a claim was stopped by a signal; the same command continues from there.
    """
    failures = []
    modules = outside.claim_modules()
    for place, claim in enumerate(claims, start=1):
        print(f"[{place}/{len(claims)}] {claim}", flush=True)
        began = time.monotonic()
        module = modules.get(claim, f"experiments.{claim}")
        command = [sys.executable, "-m", "covlab", module, f"scale={scale}"]
        if runs != Path("runs"):
            command.append(f"root={runs}")
        status = subprocess.run(command, check=False).returncode
        if status in (130, -2, -15):
            raise KeyboardInterrupt
        if status:
            failures.append(f"{claim}: exit status {status}")
            continue
        try:
            if results is None:
                Verdict.read(runs / claim / scale / "verdict.json")
            else:
                keep(runs / claim / scale, results / f"{claim}_{scale}")
        except (OSError, VerdictError) as error:
            failures.append(f"{claim}: {error}")
        print(f"[{place}/{len(claims)}] {claim}: {time.monotonic() - began:.0f} s", flush=True)
    return failures


def keep(run: Path, target: Path) -> None:
    """Copy a run's verdict and PNG figures into `target`, replacing an earlier run's.

    Raises:
        VerdictError: the run has no valid verdict; nothing is changed then.
        OSError: `target` cannot be written.
    """
    Verdict.read(run / "verdict.json")
    target.mkdir(parents=True, exist_ok=True)
    figures = sorted((run / "figures").glob("*.png"))
    for old in target.glob("*.png"):
        if old.name not in {figure.name for figure in figures}:
            old.unlink()
    for figure in figures:
        shutil.copyfile(figure, target / figure.name)
    atomic_write(target / "verdict.json", (run / "verdict.json").read_bytes())
