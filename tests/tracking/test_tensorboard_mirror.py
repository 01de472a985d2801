"""Event files, read back by TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles.fake_wandb import CONFIG

from tracking import RunDirectory, RunSink
from tracking.tensorboard_mirror import TensorboardMirror, require_tensorboard

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.util import tensor_util

STEPS = [("pretrain", 0), ("pretrain", 10), ("finetune", 0), ("finetune", 5), ("finetune", 10)]


def read(folder: Path) -> Any:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0, "images": 0})
    return accumulator.Reload()


def points(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def mirror(path: Path, **options: Any) -> TensorboardMirror:
    return TensorboardMirror(path, CONFIG, say=print, **options)


def write(sink: RunSink, numbers: range, seeds: int = 3) -> None:
    for number in numbers:
        phase, step = STEPS[number]
        sink.histogram("eval/log_ratio", 100 + number, np.linspace(0, 1, 10) + number)
        head = {"phase": phase, "step": step, "global_step": 100 + number}
        sink.metrics(
            [
                head | {"seed": k, "eval/cov/16": float(10 * number + k * k), "eval/cov/4": 1.0, "note": "x"}
                for k in range(seeds)
            ]
        )
        sink.timing({"phase": phase, "step": step, "event": "step", "time": 1e9 + number})


def run(path: Path, numbers: range, position: int = 0, **options: Any) -> TensorboardMirror:
    """One process, which continues after `position` lines."""
    with RunDirectory.open(path, CONFIG) as directory:
        made = mirror(path, **options)
        with RunSink(directory, made) as sink:
            sink.rewind(position)
            write(sink, numbers)
    assert made.failure is None
    return made


@pytest.mark.parametrize("position", [0, 3, 9])
def test_a_continued_run_has_every_point_once(tmp_path: Path, position: int) -> None:
    run(tmp_path / "r", range(4))
    # The second process repeats what the last checkpoint of the first did not count.
    run(tmp_path / "r", range(position // 3, 5), position)
    run(tmp_path / "once", range(5))
    for phase, tag in (("pretrain", "eval/cov/16"), ("finetune", "seeds/eval/cov/16/q90")):
        assert points(tmp_path / "r/tensorboard" / phase, tag) == points(
            tmp_path / "once/tensorboard" / phase, tag
        )
    folder = tmp_path / "r" / "tensorboard"
    assert points(folder / "pretrain", "eval/cov/16") == [(0, 1.0), (10, 11.0)]
    assert points(folder / "finetune", "eval/cov/16") == [(0, 21.0), (5, 31.0), (10, 41.0)]
    assert points(folder / "finetune", "seeds/eval/cov/16/q10") == [
        (step, pytest.approx(value)) for step, value in ((0, 20.2), (5, 30.2), (10, 40.2))
    ]
    histograms = read(folder / "finetune").Tensors("eval/log_ratio")
    assert [event.step for event in histograms] == [0, 5, 10]
    buckets = tensor_util.make_ndarray(histograms[-1].tensor_proto)
    assert (buckets[0, 0], buckets[-1, 1], buckets[:, 2].sum()) == (4.0, 5.0, 10.0)


def chart(folder: Path) -> Any:
    (event,) = read(folder).Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(tensor_util.make_ndarray(event.tensor_proto).item())
    (category,) = layout.category
    assert category.title == "Coverage profile Cov_N, lower is better"
    (made,) = category.chart
    return made


def test_charts_have_the_n_as_lines_and_the_median_with_its_band(tmp_path: Path) -> None:
    run(tmp_path / "r", range(1))
    made = chart(tmp_path / "r" / "tensorboard" / "pretrain")
    assert made.title == "eval/cov, lower is better, median and 10 % to 90 % of the seeds"
    assert [(line.value, line.lower, line.upper) for line in made.margin.series] == [
        (f"eval/cov/{n}", f"seeds/eval/cov/{n}/q10", f"seeds/eval/cov/{n}/q90") for n in (4, 16)
    ]
    run(tmp_path / "single", range(1), per_seed=True)
    made = chart(tmp_path / "single" / "tensorboard" / "pretrain" / "seed1")
    assert (made.title, list(made.multiline.tag)) == (
        "eval/cov, lower is better", ["^eval/cov/4$", "^eval/cov/16$"],
    )  # fmt: skip


def test_tables_figures_and_settings_are_shown_and_seeds_on_request(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    Figure(figsize=(1, 1)).savefig(tmp_path / "curves.png", dpi=100)
    with RunDirectory.open(tmp_path / "r", CONFIG) as directory:
        made = mirror(tmp_path / "r", per_seed=True)
        with RunSink(directory, made) as sink:
            write(sink, range(3))
            sink.table("samples", 102, ["text"], [["a|b"]])
            sink.images({"figures/pretrain": tmp_path / "curves.png"})
    folder = tmp_path / "r" / "tensorboard"
    assert points(folder / "pretrain" / "seed2", "eval/cov/16") == [(0, 4.0), (10, 14.0)]
    shown = read(folder / "finetune" / "seed0")
    (table,) = shown.Tensors("samples")
    assert tensor_util.make_ndarray(table.tensor_proto).item() == b"| text |\n| --- |\n| a\\|b |"
    (image,) = read(folder / "pretrain" / "seed0").Images("figures/pretrain")
    assert (image.step, image.width, image.height) == (10, 100, 100)
    assert "_hparams_/session_start_info" in shown.SummaryMetadata.__self__.summary_metadata


def test_a_failure_costs_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tensorboard").write_text("a file, not a folder")
    made = mirror(tmp_path)
    for step in (0, 1):
        made.metrics([{"phase": "p", "step": step, "seed": 0, "eval/kl": 1.0}])
    made.finish()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("TensorBoard: FileExistsError: ")
    assert line.endswith("the run goes on without it and metrics.jsonl keeps all")


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^tracking.tensorboard: True, but .* 'covlab\[tensorboard\]'$"):
        require_tensorboard()
