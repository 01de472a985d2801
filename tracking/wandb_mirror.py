"""W&B as a mirror of `metrics.jsonl`: never the only copy, never a reason for a run to stop.

Any failure of W&B (not installed, no network, a full disk) causes one warning, and the run continues without
W&B. `rebuild` recreates the W&B run from the run directory later, also as a command:

    python -m tracking.wandb_mirror RUN_DIRECTORY [--mode auto|online|offline] [--per-seed] [--project P] ...
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tracking.atomic import atomic_write
from tracking.load import LoadError
from tracking.metrics_file import Record, read_records
from tracking.mirrors import say
from tracking.run_config import plain_config, read_config
from tracking.wandb_names import BAND, best_of, over_seeds, wandb_name
from tracking.wandb_options import MODES, WandbOptions, resolve_mode
from tracking.wandb_rows import Histograms, binned, stored_rows

_OPTIONS_FILE = "wandb.json"


class MirrorError(ValueError):
    """A W&B run that could not be rebuilt."""


def check_run_id(options: WandbOptions, directory: str | os.PathLike[str], again: bool = False) -> None:
    """Refuse a `run_id` used by another run of this program, or different from the id in the directory.

    Args:
        options: the result of `obeying_environment`.
        directory: a run directory, which need not exist yet.
        again: True if the directory may be mirrored again under another id, because W&B's agent proposed the
            values of the run.

    Raises:
        ValueError: in one line with the id.
    """
    if options.run_id is None or options.mode == "disabled":
        return
    folder = Path(directory).absolute()
    if _TAKEN.setdefault(options.run_id, folder) != folder:
        raise ValueError(
            f"WANDB_RUN_ID: {options.run_id!r} names one W&B run, but this program makes several: unset it"
        )
    kept = _stored(folder).get("ids", {}).get(_ALL_SEEDS)
    if kept not in (None, options.run_id) and not again:
        raise ValueError(
            f"WANDB_RUN_ID: {options.run_id!r}, but the run continues W&B run {kept!r} of {_OPTIONS_FILE}: "
            "unset it, or choose another name"
        )


_ALL_SEEDS = "all"
_TAKEN: dict[str, Path] = {}


def _stored(directory: Path) -> dict[str, Any]:
    """Readable options and ids stored in a run directory."""
    try:
        found = json.loads((directory / _OPTIONS_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class WandbMirror:
    """Mirrors a run to W&B. No method raises: the first failure prints one line and ends the mirroring.

    The first call with data creates the W&B run. `links` then holds the address, or for an offline run the
    folder for `wandb sync`; `failure` holds the warning, if any.

    `wandb.json` stores the options and the ids of the W&B runs, so that a continued run is the same W&B run.
    Data logged at one boundary are one row of the W&B run. The number of the row (`_step`) is the index of
    the step in the metrics file. `replay` logs the rows of earlier processes except rows that an online W&B
    run already has.

    Args:
        options: see `WandbOptions`.
        directory: the run directory; W&B's files go to the folder `wandb/`.
        config: the resolved configuration.
        say: prints one line; standard error by default.
        anew: True to create new W&B runs, ignoring the ids in `wandb.json`, and to keep that file unchanged.
    """

    def __init__(
        self,
        options: WandbOptions,
        directory: str | os.PathLike[str],
        config: Mapping[str, Any],
        say: Callable[[str], None] = say,
        anew: bool = False,
    ) -> None:
        self.mode = resolve_mode(options.mode)
        self.links: list[str] = []
        self.failure: str | None = None
        self._options = options
        self._directory = Path(directory).absolute()
        self._config = config
        self._say = say
        self._anew = anew
        self._runs: dict[Any, Any] = {}
        self._defined: dict[Any, set[str]] = {}
        self._seeds = 0
        # Number of rows with metrics, and the newest row with any data.
        self._rows, self._newest = 0, 0
        self._kept: Histograms | None = None
        if options.mode == "online" and self.mode == "offline":
            say("W&B: no key is configured, so the run is written offline: `wandb login`, then `wandb sync`")

    def metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Log the records of one step, one per seed, as a new row."""
        self._guard(lambda: self._metrics(records))

    def timing(self, record: Mapping[str, Any]) -> None:
        """Log the numbers of a timing record as `timing/<key>`."""
        numbers = {
            key if key == "global_step" else f"timing/{wandb_name(key)}": value
            for key, value in record.items()
            if isinstance(value, int | float)
        }
        self._guard(lambda: self._log(self._shared(), numbers))

    def histogram(
        self, name: str, global_step: int, values: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Log a histogram of the finite `values` (..., examples) over all seeds; `weights` (examples,).

        The histogram belongs to the row of the next metrics. If some values are not finite,
        `<name>/non_finite` is the fraction of weight on them.
        """
        self._guard(lambda: self._histogram(name, global_step, values, weights))

    def table(
        self, name: str, global_step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Log a table."""
        self._guard(lambda: self._table(wandb_name(name), global_step, columns, rows))

    def alert(self, title: str, text: str) -> None:
        """Raise an alert, which W&B mails or posts by the user's settings."""
        self._guard(lambda: self._run(self._shared()).alert(title=title, text=text))

    def images(self, images: Mapping[str, str | os.PathLike[str]]) -> None:
        """Log PNG files, by name."""
        self._guard(lambda: self._images(images))

    def replay(self, records: Sequence[Record]) -> None:
        """Log all data in the run directory for the rows of the metric `records`, which are all so far."""
        self._guard(lambda: self._replay(records))

    def finish(self, exit_code: int = 0) -> None:
        """End the W&B runs, waiting at most `finish_timeout` for the upload. Idempotent."""
        runs, self._runs = list(self._runs.values()), {}
        for run in runs:
            self._guard(lambda run=run: run.finish(exit_code=exit_code), always=True)  # type: ignore[misc]
        if self._kept is not None:
            self._guard(self._kept.close, always=True)

    def _guard(self, action: Callable[[], object], always: bool = False) -> None:
        if self.mode == "disabled" or (self.failure is not None and not always):
            return
        try:
            action()
        except Exception as error:
            if self.failure is None:
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                self.failure = f"W&B: {reason[:300]}: the run goes on without W&B and metrics.jsonl keeps all"
                self._say(self.failure)

    def _id(self, seed: int | None) -> str:
        """Id of a W&B run, stored in the run directory before the W&B run is created."""
        own = _ALL_SEEDS if seed is None else str(seed)
        stored = {} if self._anew else _stored(self._directory)
        ids = dict(stored.get("ids", {}))
        given = self._options.run_id if seed is None else None
        ids[own] = given or ids.get(own) or secrets.token_hex(4)
        found = dataclasses.asdict(self._options) | {"ids": ids}
        if not self._anew and found != stored:
            atomic_write(self._directory / _OPTIONS_FILE, json.dumps(found, indent=1).encode() + b"\n")
        return str(ids[own])

    def _run(self, seed: int | None) -> Any:
        """W&B run of a seed, or of all seeds, created at the first call.

        W&B 0.31 resumes an online run at the newest row. For an offline run with `resume`, `wandb sync` would
        number the rows after those of earlier folders of the id. An offline run is therefore complete and not
        resumed: `wandb sync` overwrites the equal rows of the earlier folders.
        """
        if seed in self._runs:
            return self._runs[seed]
        import wandb

        name = self._options.name or self._directory.name
        run = wandb.init(
            mode=self.mode,
            reinit="create_new",
            id=self._id(seed),
            resume="allow" if self.mode == "online" else None,
            dir=str(self._directory),
            project=self._options.project or "covlab",
            entity=self._options.entity,
            group=self._options.group or (name if self._options.per_seed else None),
            job_type=self._options.job_type,
            name=name if seed is None else f"{name}-seed{seed}",
            tags=list(self._options.tags),
            notes=self._options.notes,
            config=plain_config(self._config) | ({} if seed is None else {"seed_of_run": seed}),
            settings=wandb.Settings(
                silent=True,
                console="off",
                init_timeout=self._options.init_timeout,
                login_timeout=self._options.init_timeout,
                finish_timeout=self._options.finish_timeout,
            ),
        )
        self._runs[seed] = run
        self._defined[seed] = set()
        run.define_metric("*", step_metric="global_step")
        self.links.append(str(run.url) if self.mode == "online" else str(Path(run.dir).parent))
        if len(self.links) == 1:
            self._say(f"W&B ({self.mode}): {self.links[0]}")
        return run

    def _shared(self) -> int | None:
        """Seed of the W&B run for data of no single seed; None if one run has all seeds."""
        if not self._options.per_seed:
            return None
        return next(iter(self._runs), int(self._config.get("seed", 0)))

    def _log(self, seed: int | None, logged: Mapping[str, Any], row: int | None = None) -> None:
        """Log into a row, by default the newest, unless W&B has the row from an earlier process."""
        run = self._run(seed)
        row = self._newest = max(self._newest, 0 if row is None else row)
        if row < getattr(run, "starting_step", 0):
            return
        for name in logged:
            if name not in self._defined[seed]:
                self._defined[seed].add(name)
                # Hidden from automatic panels, which would be three for one quantity.
                best, hidden = best_of(name), name.endswith(BAND)
                if best is not None or hidden:
                    run.define_metric(name, step_metric="global_step", summary=best, hidden=hidden)
        run.log(dict(logged), step=row)

    def _metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        # Frozen seeds are missing in later steps, but names must remain those of several seeds.
        self._seeds = max(self._seeds, len(records))
        row, self._rows = self._rows, self._rows + 1
        if self._seeds > 1 and not self._options.per_seed:
            self._log(None, over_seeds(records), row)
            return
        for record in records:
            plain = {wandb_name(key): v for key, v in record.items() if v is not None and key != "seed"}
            self._log(int(record["seed"]) if self._options.per_seed else None, plain, row)

    def _histogram(self, name: str, global_step: int, values: np.ndarray, weights: np.ndarray | None) -> None:
        histogram = binned(values, weights)
        if self._kept is None:
            self._kept = Histograms(self._directory)
        self._kept.keep(self._rows, name, global_step, histogram)
        self._show_histogram(name, global_step, histogram)

    def _show_histogram(self, name: str, global_step: int, histogram: Mapping[str, np.ndarray]) -> None:
        import wandb

        name = wandb_name(name)
        logged: dict[str, Any] = {"global_step": global_step}
        if histogram["counts"].size:
            logged[name] = wandb.Histogram(np_histogram=(histogram["counts"], histogram["edges"]))
        if histogram["non_finite"] > 0:
            logged[f"{name}/non_finite"] = float(histogram["non_finite"])
        self._log(self._shared(), logged, self._rows)

    def _table(
        self, name: str, global_step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        import wandb

        table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        self._log(self._shared(), {"global_step": global_step, name: table})

    def _images(self, images: Mapping[str, str | os.PathLike[str]]) -> None:
        import wandb

        shown = {wandb_name(name): wandb.Image(os.fspath(path)) for name, path in images.items()}
        self._log(self._shared(), shown)

    def _replay(self, records: Sequence[Record]) -> None:
        rows = list(stored_rows(self._directory, records))
        self._seeds = max([self._seeds, *(len(row.metrics) for row in rows)])
        for row in rows:
            for name, global_step, histogram in row.histograms:
                self._show_histogram(name, global_step, histogram)
            self._metrics(row.metrics)
            for record in row.timings:
                self.timing(record)
            for name, global_step, columns, cells in row.tables:
                self._table(wandb_name(name), global_step, columns, cells)


def rebuild(directory: str | os.PathLike[str], say: Callable[[str], None] = say, **options: Any) -> list[str]:
    """Recreate the W&B run from the metrics, histograms, timings, tables and figures of a run directory.

    The result is a new W&B run with the name, group and tags of the first.

    Args:
        directory: a run directory, also of a run in progress.
        say: prints one line.
        options: fields of `WandbOptions` that replace those of the run; `mode` is "auto" by default.

    Returns:
        The addresses of the W&B runs, or the folders for `wandb sync`.

    Raises:
        LoadError: there is no `metrics.jsonl`, or it is empty.
        MirrorError: W&B failed.
        ValueError: the config, the metrics or an option is not valid.
    """
    folder = Path(directory)
    if not (folder / "metrics.jsonl").is_file() or not (records := read_records(folder / "metrics.jsonl")):
        raise LoadError(
            f"{folder}: no metrics to rebuild from: a directory with a filled metrics.jsonl is valid"
        )
    stored = _stored(folder)
    # Another version of the program may have stored unknown fields.
    kept = {
        field.name: stored[field.name] for field in dataclasses.fields(WandbOptions) if field.name in stored
    }
    more = {"run_id": None, "tags": tuple(kept.get("tags", ())), "mode": "auto"}
    chosen = WandbOptions(**{**kept, **more, **options})
    mirror = WandbMirror(chosen, folder, read_config(folder), say, anew=True)
    mirror.replay(records)
    figures = {f"figures/{file.stem}": file for file in sorted((folder / "figures").glob("*.png"))}
    if figures:
        mirror.images(figures)
    mirror.finish()
    if mirror.failure is not None:
        raise MirrorError(mirror.failure.rsplit(": the run goes on", 1)[0])
    return mirror.links


def main(arguments: Sequence[str] | None = None) -> int:
    """Command that rebuilds the W&B run of every run directory. Returns 1 if any fails."""
    parser = argparse.ArgumentParser(
        prog="python -m tracking.wandb_mirror", description="Make W&B runs again from run directories."
    )
    parser.add_argument("directories", nargs="+", metavar="RUN_DIRECTORY")
    parser.add_argument(
        "--mode", choices=MODES[:3], default="auto", help="default: online where a key is configured"
    )
    parser.add_argument("--per-seed", action="store_true", default=None, help="one W&B run a seed")
    for name in ("project", "entity", "group", "name", "notes"):
        parser.add_argument(f"--{name}", help=f"default: the {name} that the run was mirrored with")
    given = {key: value for key, value in vars(parser.parse_args(arguments)).items() if value is not None}
    failed = False
    for directory in given.pop("directories"):
        try:
            for link in rebuild(directory, say=lambda _: None, **given):
                print(link)
        except ValueError as error:
            failed = True
            print(error, file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
