"""One training run on disk: its directory, its sink, its end."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from covlab.launch.base_model import base_parameters, same_base
from covlab.launch.build import Setup, build, make, plain, spelt_out
from covlab.launch.cli import StopRequest
from covlab.launch.longer import longer
from covlab.launch.overlap import note_overlap
from covlab.launch.processes import send
from covlab.launch.programs import kept_for, programs_of
from covlab.launch.run_names import VOLATILE, run_path
from covlab.launch.runtime import configure_run
from covlab.launch.settings import TrackingSettings
from metrics.evaluators import HeldOut
from models.target import platform
from tasks.compiling import require_options
from tracking import Progress, RunDirectory, RunSink, load_run, read_status
from tracking.metric_names import headline
from tracking.mirrors import Mirror
from tracking.tensorboard_mirror import TensorboardMirror, require_tensorboard
from tracking.wandb_mirror import WandbMirror, check_run_id
from tracking.wandb_options import AGENT, WandbOptions, obeying_environment
from training import Checkpoints, EarlyWarning, Outcome, Trainer, TrainingDiverged
from training.checkpoints import require_same_draws
from training.precision import said
from training.reduction import held_out_arrays

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_REFUSALS = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ESTALE", "EMFILE", "ENFILE")
    if hasattr(errno, name)
}


@dataclasses.dataclass(frozen=True)
class Finished:
    """A run with its final status: `complete` (`reason` names diverged seeds, if any), `stopped` (`reason`
    names the signal) or `failed` (every seed diverged)."""

    path: Path
    state: str
    reason: str
    wall_seconds: float


def train_run(
    config: DictConfig, path: Path, stop: Callable[[], str | None] = lambda: None, setup: Setup | None = None
) -> Finished:
    """Train the run that `config` describes in the directory `path`, continuing an existing run.

    A complete run is left unchanged, unless `config` lengthens its last phase or adds phases. A run stopped
    by a signal is saved and marked. A run whose seeds all diverge is marked failed and keeps its last good
    checkpoint.

    Raises:
        ValueError: an invalid configuration or directory, with nothing on disk changed; a disk that refuses
            a write, with all earlier writes kept; or checkpoints that are all damaged.
    """
    config = spelt_out(config)
    setup = setup or build(config)
    layout = setup.layout(config)
    require_options(setup.phases[0].options, platform())
    identity = said(plain(config), platform(), setup.model)
    may_differ, more = same_base(path, identity), longer(path, identity, setup)
    status = read_status(path)
    if more or (status is not None and status.state != "complete"):
        require_same_draws(path / "checkpoints")
    fixed = base_parameters(config, setup)
    early_warning = _early_warning(config)
    began = time.monotonic()
    tracking = setup.tracking
    if tracking.per_seed and AGENT in os.environ:
        raise ValueError("tracking.per_seed: True; an agent of a W&B sweep has one W&B run for all seeds")
    options = _options(tracking, config, path)
    check_run_id(options, path, again=AGENT in os.environ)
    if tracking.tensorboard:
        require_tensorboard()
    with (
        _refusals(path),
        RunDirectory.open(
            path,
            identity,
            resume=config.resume,
            volatile=(*VOLATILE, *may_differ, *more),
            goes_on=bool(more),
        ) as directory,
    ):
        if directory.is_complete:
            reason = directory.status.reason if directory.status else ""
            print(f"{path}: complete already; another name=... or other settings start a new run")
            if AGENT in os.environ:
                # W&B proposed the same values again, and waits for their result in a new W&B run.
                mirror = WandbMirror(options, path, identity)
                mirror.replay(directory.metrics.records())
                mirror.finish()
            return Finished(path, "complete", reason, 0.0)
        kept = kept_for(identity, setup, layout)
        held_out: list[HeldOut] = []
        programs = programs_of(setup, layout, kept, held_out)
        held_out += setup.held_out()
        mirrors: list[Mirror] = [WandbMirror(options, path, identity)]
        if tracking.tensorboard:
            mirrors.append(TensorboardMirror(path, identity, tracking.per_seed))
        progress = Progress(show=tracking.progress, interval=tracking.interval)
        with RunSink(directory, *mirrors, progress=progress) as sink:
            for phase, held in zip(setup.phases, held_out, strict=True):
                sink.arrays(f"{phase.name}_held_out", held_out_arrays(held))
            note_overlap(path, setup, held_out, sink.message)
            checkpoints = Checkpoints(directory.checkpoints, setup.checkpoint)
            send(train=OmegaConf.to_yaml(config, resolve=True))
            trainer = Trainer(
                setup.model,
                setup.phases,
                setup.seeds,
                setup.evaluators,
                held_out,
                sink,
                checkpoints,
                stop,
                setup.evaluation[-1].table_prompts,
                layout=layout,
                fixed=fixed,
                start_from_fixed=setup.start_from_base,
                early_warning=early_warning,
                programs=programs,
                shelf=kept,
            )
            try:
                outcome = trainer.run()
            except TrainingDiverged as error:
                checkpoints.close()
                directory.mark("failed", str(error))
                return Finished(path, "failed", str(error), time.monotonic() - began)
            except BaseException:
                # The error that passes says more than the one that a broken writer adds.
                with contextlib.suppress(Exception):
                    checkpoints.close()
                raise
            sink.flush()
            if tracking.figures and outcome.stopped is None:
                sink.images(draw_figures(path))
        return _finish(directory, outcome, path, began)


def train(config: DictConfig) -> int:
    """Train one configuration as a command.

    Returns:
        The exit status: 0 if all seeds are complete, 1 if a seed diverged, 130 after a signal.
    """
    finished = train_named(config, HydraConfig.get().overrides.task, StopRequest().install())
    if finished.state == "complete" and not finished.reason:
        print(f"{finished.path}: complete in {finished.wall_seconds:.0f} s")
        return 0
    print(f"{finished.path}: {finished.state}: {finished.reason}", file=sys.stderr)
    return 130 if finished.state == "stopped" else 1


def train_named(config: DictConfig, overrides: Sequence[str], stop: Callable[[], str | None]) -> Finished:
    """Train one configuration in the directory that its name, or else its overrides, decide.

    Raises:
        ValueError: as `run_path` and `train_run`.
    """
    configure_run(config)
    return train_run(config, run_path(config, overrides), stop)


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Turn a refusal of the disk into one line; the run can be continued."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        raise ValueError(
            f"{error.filename or path}: {error.strerror}: what the run has written stays; see to the disk, "
            "then the same command continues"
        ) from error


def _finish(directory: RunDirectory, outcome: Outcome, path: Path, began: float) -> Finished:
    seconds = time.monotonic() - began
    if outcome.stopped:
        directory.mark("stopped", outcome.stopped)
        return Finished(path, "stopped", outcome.stopped, seconds)
    reason = ", ".join(
        f"seed {seed} diverged at step {at} of {name}" for seed, (name, at) in outcome.failed.items()
    )
    directory.mark("complete", reason)
    return Finished(path, "complete", reason, seconds)


def _options(tracking: TrackingSettings, config: DictConfig, path: Path) -> WandbOptions:
    """Names and options of the W&B run; with one W&B run per seed, their group is the run.

    Raises:
        ValueError: an option that W&B would refuse or apply only in part.
    """
    options = WandbOptions(
        mode=tracking.wandb,
        project=tracking.project,
        entity=tracking.entity,
        group=path.name if tracking.per_seed else str(config.group),
        job_type="train",
        name=path.name,
        tags=tuple(tracking.tags),
        notes=tracking.notes,
        per_seed=tracking.per_seed,
    )
    return obeying_environment(options)


def _early_warning(config: DictConfig) -> EarlyWarning | None:
    settings = config.get("early_warning")
    if settings is None:
        return None
    if not isinstance(settings, DictConfig):
        raise ValueError(
            f"early_warning: {settings!r} is neither null nor a mapping with kind, parameter, threshold"
        )
    warning: EarlyWarning = make({"_target_": "training.EarlyWarning", **settings}, "early_warning")
    return warning


def _alarm_starts(part: pd.DataFrame) -> dict[str, list[float]]:
    """Global steps at which a seed's early warning starts, as marks for the panel of coverage."""
    key = "warning/alarm"
    if key not in part:
        return {}
    rows = part[part[key].notna()].sort_values("step")
    starts = rows[(rows[key] == 1) & (rows.groupby("seed")[key].shift(fill_value=0) == 0)]
    return {"eval/cov": sorted(set(starts["global_step"].astype(float)))}


def draw_figures(path: Path) -> dict[str, Path]:
    """Draw `figures/<phase>.png`, the curves of every phase, from the run's metrics file."""
    # Imported late, so that a run does not wait for them at its start.
    import pandas as pd

    from covlab.report.plotting import save

    frame = load_run(path)
    drawn: dict[str, Path] = {}
    for phase in pd.unique(frame["phase"]):
        part = frame[frame["phase"] == phase]
        if shown_metrics(part) and part["step"].nunique() > 1:
            target = path / "figures" / f"{phase}.png"
            save(phase_figure(part), target)
            drawn[f"figures/{phase}"] = target
    return drawn


def shown_metrics(part: pd.DataFrame) -> list[str]:
    """The metrics of a run that its figures show, without those that have no value in `part`."""
    return [key for key in part.columns if headline(key) and part[key].notna().any()]


def phase_figure(part: pd.DataFrame, metrics: Sequence[str] | None = None) -> Figure:
    """Curves of a phase's metrics, by default `shown_metrics`, with the starts of early warnings.

    Raises:
        ValueError: a metric that is not in `part`, or none with a finite number.
    """
    from covlab.report import curves as figures

    return figures.curves(
        part, shown_metrics(part) if metrics is None else metrics, marks=_alarm_starts(part)
    )
