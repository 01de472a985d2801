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
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tracking.atomic import atomic_write
from tracking.load import LoadError
from tracking.metrics_file import Record, by_step, decode_value, read_records
from tracking.run_config import plain_config, read_config
from tracking.wandb_names import over_seeds, wandb_name
from tracking.wandb_options import MODES, WandbOptions, resolve_mode

_OPTIONS_FILE = "wandb.json"
_HISTOGRAM_BINS = 64


class MirrorError(ValueError):
    """A W&B run that could not be rebuilt."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class WandbMirror:
    """Mirrors a run into W&B. No method raises: the first failure says so in one line and ends the mirroring.

    The W&B run is made at the first call that has something to log. `links` then holds its address, or for an
    offline run the folder to give to `wandb sync`; `failure` holds the one line of warning, if there was one.

    Args:
        options: see `WandbOptions`.
        directory: the run directory; W&B's files go to `wandb/` in it.
        config: the resolved configuration.
        say: prints one line; standard error by default.
    """

    def __init__(
        self,
        options: WandbOptions,
        directory: str | os.PathLike[str],
        config: Mapping[str, Any],
        say: Callable[[str], None] = _say,
    ) -> None:
        self.mode = resolve_mode(options.mode)
        self.links: list[str] = []
        self.failure: str | None = None
        self._options = options
        self._directory = Path(directory).absolute()
        self._config = config
        self._say = say
        self._runs: dict[Any, Any] = {}
        self._seeds = 0
        if options.mode == "online" and self.mode == "offline":
            say("W&B: no key is configured, so the run is written offline: `wandb login`, then `wandb sync`")

    def metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Log one step's records, one a seed."""
        self._guard(lambda: self._metrics(records))

    def timing(self, record: Mapping[str, Any]) -> None:
        """Log the numbers of a timing record as `timing/<key>`."""
        numbers = {
            key if key == "global_step" else f"timing/{wandb_name(key)}": value
            for key, value in record.items()
            if isinstance(value, int | float)
        }
        self._guard(lambda: self._shared_run().log(numbers))

    def histogram(
        self, name: str, global_step: int, values: np.ndarray, weights: np.ndarray | None = None
    ) -> None:
        """Log a histogram of the finite `values` (..., examples), all seeds together; `weights` (examples,).

        Where some are not finite, `<name>/non_finite` is the weight of those as a fraction of the whole.
        """
        self._guard(lambda: self._histogram(wandb_name(name), global_step, values, weights))

    def table(
        self, name: str, global_step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Log a table."""
        self._guard(lambda: self._table(wandb_name(name), global_step, columns, rows))

    def alert(self, title: str, text: str) -> None:
        """Raise an alert, which W&B mails or posts as its user asked for."""
        self._guard(lambda: self._shared_run().alert(title=title, text=text))

    def images(self, images: Mapping[str, str | os.PathLike[str]]) -> None:
        """Log PNG files, by name."""
        self._guard(lambda: self._images(images))

    def replay(self, records: Iterable[Record]) -> None:
        """Log all of a metrics file, step by step."""
        steps = by_step(records)
        self._seeds = max([self._seeds, *map(len, steps)])
        for step in steps:
            self.metrics(step)

    def finish(self, exit_code: int = 0) -> None:
        """End the W&B runs, waiting at most `finish_timeout` for the upload. More than once is fine."""
        runs, self._runs = list(self._runs.values()), {}
        for run in runs:
            self._guard(lambda run=run: run.finish(exit_code=exit_code), always=True)  # type: ignore[misc]

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

    def _run(self, seed: int | None) -> Any:
        if seed in self._runs:
            return self._runs[seed]
        options = dataclasses.asdict(self._options)
        if not self._runs:
            atomic_write(self._directory / _OPTIONS_FILE, json.dumps(options, indent=1).encode() + b"\n")
        import wandb

        name = self._options.name or self._directory.name
        run = wandb.init(
            mode=self.mode,
            reinit="create_new",
            dir=str(self._directory),
            project=self._options.project,
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
        run.define_metric("*", step_metric="global_step")
        self.links.append(str(run.url) if self.mode == "online" else str(Path(run.dir).parent))
        if len(self.links) == 1:
            self._say(f"W&B ({self.mode}): {self.links[0]}")
        return run

    def _shared_run(self) -> Any:
        """The run of what belongs to no single seed."""
        return next(iter(self._runs.values())) if self._runs else self._run(None)

    def _metrics(self, records: Sequence[Mapping[str, Any]]) -> None:
        # A seed that was frozen leaves the later steps; the names must stay those of several seeds.
        self._seeds = max(self._seeds, len(records))
        if self._seeds > 1 and not self._options.per_seed:
            self._run(None).log(over_seeds(records))
            return
        for record in records:
            plain = {wandb_name(key): v for key, v in record.items() if v is not None and key != "seed"}
            self._run(record.get("seed") if self._options.per_seed else None).log(plain)

    def _histogram(self, name: str, global_step: int, values: np.ndarray, weights: np.ndarray | None) -> None:
        values = np.asarray(values, np.float64)
        weights = np.broadcast_to(1.0 if weights is None else np.asarray(weights, np.float64), values.shape)
        finite = np.isfinite(values)
        logged: dict[str, Any] = {"global_step": global_step}
        if finite.any():
            import wandb

            counts = np.histogram(values[finite], bins=_HISTOGRAM_BINS, weights=weights[finite])
            logged[name] = wandb.Histogram(np_histogram=counts)
        if not finite.all():
            logged[f"{name}/non_finite"] = float(weights[~finite].sum() / weights.sum())
        self._shared_run().log(logged)

    def _table(
        self, name: str, global_step: int, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        import wandb

        table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        self._shared_run().log({"global_step": global_step, name: table})

    def _images(self, images: Mapping[str, str | os.PathLike[str]]) -> None:
        import wandb

        shown = {wandb_name(name): wandb.Image(os.fspath(path)) for name, path in images.items()}
        self._shared_run().log(shown)


def rebuild(
    directory: str | os.PathLike[str], say: Callable[[str], None] = _say, **options: Any
) -> list[str]:
    """Make the W&B run again from what the run directory holds: metrics, timings, tables and figures.

    It is a new W&B run with the name, group and tags of the first; histograms are not on disk and stay out.

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
    stored = json.loads((folder / _OPTIONS_FILE).read_bytes()) if (folder / _OPTIONS_FILE).is_file() else {}
    # Another version of the program may have stored fields that this one does not know.
    kept = {
        field.name: stored[field.name] for field in dataclasses.fields(WandbOptions) if field.name in stored
    }
    chosen = WandbOptions(**{**kept, "tags": tuple(kept.get("tags", ())), "mode": "auto", **options})
    mirror = WandbMirror(chosen, folder, read_config(folder), say)
    mirror.replay(records)
    if (folder / "timings.jsonl").is_file():
        for record in read_records(folder / "timings.jsonl"):
            mirror.timing(record)
    for file in sorted((folder / "tables").rglob("*.json")):
        table = json.loads(file.read_bytes())
        rows = [[decode_value(cell) for cell in row] for row in table["rows"]]
        mirror.table(table["name"], table["global_step"], table["columns"], rows)
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
