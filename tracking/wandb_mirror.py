"""W&B as a mirror of `metrics.jsonl`: never the only copy, never a reason for a run to stop.

Whatever goes wrong in W&B (not installed, no network, a full disk) costs one warning; the run goes on without
it, and `rebuild` makes the W&B run from the run directory at any later time. As a command:

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
from tracking.run_config import plain_config, read_config
from tracking.wandb_names import best_of, over_seeds, wandb_name
from tracking.wandb_options import MODES, WandbOptions, resolve_mode
from tracking.wandb_rows import Histograms, binned, stored_rows

_OPTIONS_FILE = "wandb.json"


class MirrorError(ValueError):
    """A W&B run that could not be rebuilt."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def check_run_id(options: WandbOptions, directory: str | os.PathLike[str], again: bool = False) -> None:
    """Refuse a `run_id` that another run of this program has, or that is not the one kept in the directory.

    Args:
        options: `obeying_environment`.
        directory: a run directory, which need not exist yet.
        again: the directory may be told to W&B once more, under another id: W&B's agent proposed its values.

    Raises:
        ValueError: one line that names the id.
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
    """The options and ids that a run directory keeps, as far as they can be read."""
    try:
        found = json.loads((directory / _OPTIONS_FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class WandbMirror:
    """Mirrors a run into W&B. No method raises: the first failure says so in one line and ends the mirroring.

    The W&B run is made at the first call that has something to log. `links` then holds its address, or for an
    offline run the folder to give to `wandb sync`; `failure` holds the one line of warning, if there was one.

    `wandb.json` keeps the options and the ids of the W&B runs, so that a continued run is the same W&B run.
    What is logged at one boundary is one row of the W&B run. Its number (`_step`) is that of the step's
    records in the metrics file. `replay` tells the rows of earlier processes; those that an online W&B run
    has already are left out.

    Args:
        options: see `WandbOptions`.
        directory: the run directory; W&B's files go to `wandb/` in it.
        config: the resolved configuration.
        say: prints one line; standard error by default.
        anew: make new W&B runs whatever ids `wandb.json` keeps, and leave that file alone.
    """

    def __init__(
        self,
        options: WandbOptions,
        directory: str | os.PathLike[str],
        config: Mapping[str, Any],
        say: Callable[[str], None] = _say,
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
        # Rows that have metrics, and the newest that anything was logged into.
        self._rows, self._newest = 0, 0
        self._kept: Histograms | None = None
        if options.mode == "online" and self.mode == "offline":
            say("W&B: no key is configured, so the run is written offline: `wandb login`, then `wandb sync`")

    def metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Log one step's records, one a seed: a new row."""
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
        """Log a histogram of the finite `values` (..., examples), all seeds together; `weights` (examples,).

        It belongs to the row of the metrics that come next. Where some values are not finite,
        `<name>/non_finite` is the weight of those as a fraction of the whole.
        """
        self._guard(lambda: self._histogram(name, global_step, values, weights))

    def table(
        self, name: str, global_step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Log a table."""
        self._guard(lambda: self._table(wandb_name(name), global_step, columns, rows))

    def alert(self, title: str, text: str) -> None:
        """Raise an alert, which W&B mails or posts as its user asked for."""
        self._guard(lambda: self._run(self._shared()).alert(title=title, text=text))

    def images(self, images: Mapping[str, str | os.PathLike[str]]) -> None:
        """Log PNG files, by name."""
        self._guard(lambda: self._images(images))

    def replay(self, records: Sequence[Record]) -> None:
        """Log what the run directory holds for the rows of the metric `records`, which are all until now."""
        self._guard(lambda: self._replay(records))

    def finish(self, exit_code: int = 0) -> None:
        """End the W&B runs, waiting at most `finish_timeout` for the upload. More than once is fine."""
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
        """The id of a W&B run, kept in the run directory before the W&B run is made."""
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
        """The W&B run of a seed, or of all seeds, made at the first call.

        W&B 0.31 resumes an online run at its newest row. To an offline run that asks to resume, `wandb sync`
        gives other row numbers: behind those of the id's earlier folders. So an offline run does not ask,
        and is whole: `wandb sync` writes its rows over those of the earlier folders, which are the same.
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
        """The seed of the run that gets what belongs to no single seed; None where one run has all seeds."""
        if not self._options.per_seed:
            return None
        return next(iter(self._runs), int(self._config.get("seed", 0)))

    def _log(self, seed: int | None, logged: Mapping[str, Any], row: int | None = None) -> None:
        """Log into a row, the newest if none is named, unless W&B has that row from an earlier process."""
        run = self._run(seed)
        row = self._newest = max(self._newest, 0 if row is None else row)
        if row < getattr(run, "starting_step", 0):
            return
        for name in logged:
            if name not in self._defined[seed]:
                self._defined[seed].add(name)
                if (best := best_of(name)) is not None:
                    run.define_metric(name, step_metric="global_step", summary=best)
        run.log(dict(logged), step=row)

    def _metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        # A seed that was frozen leaves the later steps; the names must stay those of several seeds.
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


def rebuild(
    directory: str | os.PathLike[str], say: Callable[[str], None] = _say, **options: Any
) -> list[str]:
    """Make the W&B run again from what the run directory holds.

    That is metrics, histograms, timings, tables and figures. It is a new W&B run with the name, group and
    tags of the first.

    Args:
        directory: a run directory, also of a run in progress.
        say: prints one line.
        options: fields of `WandbOptions` that replace those of the run; `mode` is "auto" if not given.

    Returns:
        The addresses of the W&B runs, or the folders to give to `wandb sync`.

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
    # Another version of the program may have stored fields that this one does not know.
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
    """The command: rebuild the W&B run of each run directory. Returns 1 where one could not be."""
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
