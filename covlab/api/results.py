"""Results as Python objects: a run and a claim's judgement."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covlab.report.verdict import Verdict
from tracking import load_run, read_config, read_status

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from covlab.api.overrides import PathLike
    from covlab.launch.trained import TrainedRun
    from experiments.evaluate import Evaluation
    from metrics import Interval
    from tasks import Example, Task

MIXTURE = "mixture"
"""Name of the class "", all classes weighted by their probabilities."""
ALL_SEEDS = "all"
"""Entry of the column `seed` where a row summarises all seeds."""


class Run:
    """A run directory.

    Nothing is kept in memory but the model's description, so that a run in progress shows its present state.

    It is a path (`os.PathLike`), so that a setting which names a run takes it: `value=values`.

    Attributes:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        reason = f": {self.reason}" if self.reason else ""
        return f"Run({str(self.path)!r}, {self.state}{reason})"

    @property
    def state(self) -> str:
        """ "running", "complete", "stopped" or "failed"; a run whose process was killed is "running"."""
        status = read_status(self.path)
        return "running" if status is None else status.state

    @property
    def reason(self) -> str:
        """The signal that stopped the run, or the seeds that diverged; else empty."""
        status = read_status(self.path)
        return "" if status is None else status.reason

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, as nested dictionaries."""
        return read_config(self.path)

    @property
    def metrics(self) -> pd.DataFrame:
        """A row for each phase, step and seed, and a column for each metric; see `tracking.load_run`."""
        return load_run(self.path)

    @property
    def checkpoints(self) -> list[str]:
        """Checkpoints whose parameters are saved, as `<phase>:<step>`, in order of training."""
        from training.checkpoints import saved_parameters

        saved = saved_parameters(self.path / "checkpoints")
        return [":".join(map(str, each)) for each in self._trained.checkpoints(["all"])] if saved else []

    @property
    def task(self) -> Task:
        """The task of the last phase."""
        return self._trained.setup.phases[-1].task

    def plot(self, *metrics: str, phase: str | None = None) -> Figure:
        """Curves of a phase: median over the seeds, with the range as a band. A notebook shows the figure.

        Args:
            metrics: columns of `metrics`, for example "eval/kl"; none: those of the run's own figures.
            phase: a phase; None: the last that has metrics.

        Raises:
            ValueError: an unknown phase or metric, or nothing to draw yet.
        """
        from covlab.launch.runs import phase_figure

        frame = self.metrics
        phases = list(dict.fromkeys(frame["phase"]))
        if not phases or phase not in (None, *phases):
            raise ValueError(f"phase: {phase!r} has no metrics; there are {', '.join(phases) or 'none yet'}")
        return phase_figure(frame[frame["phase"] == (phase or phases[-1])], metrics or None)

    def sample(
        self,
        prompts: int | str | Sequence[str] | Example = 4,
        num_samples: int = 1,
        *,
        checkpoint: str = "last",
        seed: int | None = None,
        temperature: float = 1.0,
        sampling_seed: int = 0,
    ) -> pd.DataFrame:
        """Responses of the model as text, with log-probabilities in nats.

        Args:
            prompts: a number of fresh prompts, prompts as text, or a batch of the task's examples.
            num_samples: responses per prompt.
            checkpoint: "last" or `<phase>:<step>`.
            seed: the training seed whose model answers; None: the first that has not diverged.
            temperature: temperature of sampling; `log_prob` is that of the model, at temperature 1.
            sampling_seed: seed of the prompts and of the responses.

        Returns:
            A row for each response: `prompt`, `class`, `response`, `log_prob` = ln pi_hat(y|x), `log_pi` =
            ln pi_D(y|x), `reward`, `valid`. Of prompts given as text only `prompt`, `response` and `log_prob`
            are known.

        Raises:
            ValueError: an invalid number, checkpoint, seed or text; one line.
        """
        from covlab.api.sampling import sample

        return sample(self._trained, prompts, num_samples, checkpoint, seed, temperature, sampling_seed)

    def evaluate(self, **settings: Any) -> pd.DataFrame:
        """Numbers of `covlab evaluate`, on a fresh held-out set; also written to `evaluations/`.

        Args:
            settings: keys of conf/evaluate.yaml, for example `checkpoints="all"`, `coverage_ns=[2, 8]`,
                `num_samples=256`, `seeds=[0]`, `task_overrides={"edge_order": "by_layer"}`.

        Returns:
            A row for each checkpoint, seed, class and metric: `phase`, `step`, `seed`, `class`, `metric`,
            `estimate`, `low`, `high`. The interval of a seed is over held-out prompts, that of the seed "all"
            over seeds. `attrs["file"]` is the file with the same numbers.

        Raises:
            ValueError: an invalid setting; one line.
        """
        import pandas as pd

        from covlab.api.overrides import composed
        from covlab.launch.results import write_result
        from experiments.evaluate import evaluated

        config = composed("evaluate", (), {"run": self.path, **settings}, None).config
        evaluation = evaluated(config)
        write_result(evaluation.file, evaluation.content)
        frame = pd.DataFrame(_rows(evaluation))
        frame.attrs["file"] = str(evaluation.file)
        return frame

    def select(self, **settings: Any) -> pd.DataFrame:
        """Choices of every selection rule, N and tie-break, those of `covlab select`.

        They are also written to `selection.json`.

        Args:
            settings: keys of conf/select.yaml, for example `n=[2, 4]`, `tie_break="middle"`, `phase="train"`.

        Returns:
            A row for each seed, rule, N and tie-break: `step` and metrics of the chosen checkpoint, and the
            number of tied checkpoints. With several seeds, the rows of the seed "all" are medians.
            `attrs["file"]` is the file with the same numbers.

        Raises:
            ValueError: an invalid setting, or a run without evaluations; one line.
        """
        import pandas as pd

        from covlab.api.overrides import composed
        from experiments.select import selected, write_selection

        choices = selected(composed("select", (), {"run": self.path, **settings}, None).config)
        write_selection(choices)
        tables: dict[Any, Any] = {**choices.tables}
        if len(tables) > 1:
            tables[ALL_SEEDS] = choices.medians
        frame = pd.DataFrame([{"seed": seed} | row for seed, table in tables.items() for row in table])
        # A median of steps may lie between two of them.
        if (frame["step"] % 1 == 0).all():
            frame["step"] = frame["step"].astype(int)
        frame.attrs["file"] = str(choices.file)
        return frame

    def train_rl(self, *overrides: str, config_dir: PathLike | None = None, **settings: Any) -> Run:
        """Reinforcement learning from a checkpoint of this run, by the code of `covlab train_rl`.

        Args:
            overrides, config_dir, settings: as in `covlab.train`, with the keys of conf/train_rl.yaml, for
                example `objective="rloo"`, `steps=400`, `checkpoint_of="train:200"`.

        Raises:
            ValueError: an invalid setting, or a directory that holds another run; one line.
        """
        return self._start("train_rl", overrides, config_dir, settings)

    def train_value(self, *overrides: str, config_dir: PathLike | None = None, **settings: Any) -> Run:
        """A value function for this run's model, by the code of `covlab train_value`.

        Args:
            overrides, config_dir, settings: as in `covlab.train`, with the keys of conf/train_value.yaml, for
                example `steps=500`, `initial="fresh"`.

        Raises:
            ValueError: an invalid setting, or a directory that holds another run; one line.
        """
        return self._start("train_value", overrides, config_dir, settings)

    def _start(
        self, command: str, overrides: Sequence[str], config_dir: PathLike | None, settings: dict[str, Any]
    ) -> Run:
        from covlab.api.overrides import composed
        from covlab.api.training import train_from

        settings = {"run": self.path, **settings}
        return Run(train_from(command, composed(command, overrides, settings, config_dir)))

    def decode(self, decoding: str = "vgb", **settings: Any) -> pd.DataFrame:
        """Numbers of `covlab decode`: fresh prompts answered by a decoder. They and the samples are also
        written to `evaluations/`.

        Args:
            decoding: an option of conf/decoding, for example "vgb" or "block_best_of_n".
            settings: keys of conf/decode.yaml, for example `value=values` with a run of `train_value`,
                `samples=64`, `**{"decoding.budget": 512}`.

        Returns:
            A row for each seed, class and metric: `seed`, `class`, `metric`, `estimate`, `low`, `high`. The
            interval of a seed is over prompts, that of the seed "all" over seeds. `attrs["file"]` is the file
            with the same numbers, `attrs["samples"]` that of the responses, or None.

        Raises:
            ValueError: an invalid setting, or no values for a decoder that needs them; one line.
        """
        import pandas as pd

        from covlab.api.overrides import composed
        from experiments.decode import decoded, write_decoding

        config = composed("decode", (), {"run": self.path, "decoding": decoding, **settings}, None).config
        answered = decoded(config)
        samples = write_decoding(answered)
        frame = pd.DataFrame(_measured_rows(answered.results))
        frame.attrs["file"] = str(answered.file)
        frame.attrs["samples"] = None if samples is None else str(samples)
        return frame

    @functools.cached_property
    def _trained(self) -> TrainedRun:
        """Model and tasks, rebuilt from the configuration when first needed."""
        from covlab.launch.runtime import configure
        from covlab.launch.trained import open_run

        configure()
        return open_run(self.path)


def _rows(evaluation: Evaluation) -> Iterator[Mapping[str, Any]]:
    from metrics import name_of_n

    for result in evaluation.results:
        place = {"phase": result.phase, "step": result.step}
        for row in _measured_rows(result.seeds):
            yield place | row
        for seed, bounds in result.bounds.items():
            for metric, by_n in bounds.items():
                for n, value in by_n.items():
                    row = {"seed": seed, "class": MIXTURE, "metric": f"{metric}/{name_of_n(n)}"}
                    yield place | row | {"estimate": value}


def _measured_rows(results: Mapping[int, dict[str, dict[str, Interval]]]) -> Iterator[dict[str, Any]]:
    """A row for each seed, class and metric; with several seeds also rows of the seed "all"."""
    from covlab.launch.trained import over_seeds

    measured: dict[Any, Any] = {**results}
    if len(measured) > 1:
        measured[ALL_SEEDS] = over_seeds(results)
    for seed, metrics in measured.items():
        for metric, classes in metrics.items():
            for name, interval in classes.items():
                row = {"seed": seed, "class": name or MIXTURE, "metric": metric}
                yield row | dataclasses.asdict(interval)


@dataclasses.dataclass(frozen=True)
class Judgement:
    """A claim's outcome.

    Attributes:
        path: the claim's directory.
        state: "complete", "stopped", or "failed" if every seed of a run diverged.
        verdict: the verdict; None unless the state is "complete".
    """

    path: Path
    state: str
    verdict: Verdict | None

    def __repr__(self) -> str:
        if self.verdict is None:
            return f"Judgement({str(self.path)!r}, {self.state})"
        checks = self.verdict.checks
        passed = f"{sum(check.passed for check in checks)} of {len(checks)} checks"
        return f"Judgement({str(self.page)!r}, {self.verdict.outcome}: {passed})"

    @property
    def page(self) -> Path:
        """The HTML page with checks, figures and tables."""
        return self.path / "report.html"

    @property
    def holds(self) -> bool | None:
        """True if every check passed; None without a verdict."""
        return None if self.verdict is None else self.verdict.holds

    @property
    def outcome(self) -> str | None:
        """`holds`, `refuted` or `open`; None without a verdict."""
        return None if self.verdict is None else self.verdict.outcome

    @property
    def checks(self) -> pd.DataFrame:
        """A row for each check: `name`, `measured`, `low`, `high`, `target`, `passed`, `state`."""
        import pandas as pd

        rows = []
        for check in () if self.verdict is None else self.verdict.checks:
            low, high = check.interval or (None, None)
            rows.append((check.name, check.measured, low, high, check.target, check.passed, check.state))
        return pd.DataFrame(rows, columns=["name", "measured", "low", "high", "target", "passed", "state"])
