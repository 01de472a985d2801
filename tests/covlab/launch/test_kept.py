import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from omegaconf import DictConfig

import training.kept
from covlab.launch import kept, keys, overlap
from covlab.launch.kept import Kept, keep_to, kept_examples
from covlab.launch.overlap import kept_overlap
from covlab.launch.runs import train_run
from metrics.candidates import draw_examples
from metrics.evaluators import make_held_out
from tasks import Dyck, LayeredGraph
from training import CrossEntropy, EvaluationSchedule, Phase
from training.kept import KeptFunction

TINY = (
    "task.depth=2", "task.width=2", "task.num_ids=8", "task.edge_order=shuffled",
    "model.width=16", "model.num_layers=1", "model.num_heads=2", "steps=20", "batch_size=8",
    "evaluation.schedule.every=5", "evaluation.num_examples=16", "evaluation.table_prompts=0",
    "tracking.wandb=disabled", "tracking.figures=false", "tracking.progress=false",
)  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache that this process uses."""
    monkeypatch.setenv("COVLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(keys, "enabled", True)
    return tmp_path / "cache" / "kept"


def entries(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def test_an_entry_that_cannot_be_trusted_is_not_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    store = Kept("key", said.append)
    assert store.load("run") is None
    store.save("run", b"program")
    assert store.load("run") == b"program"
    assert Kept("other", said.append).load("run") is None
    (path,) = cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(kept, "_owner", lambda: os.getuid() + 1)
        assert store.load("run") is None
    cache.chmod(0o770)
    assert store.load("run") is None
    cache.chmod(0o700)
    assert not said
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert store.load("run") is None
    assert said == [f"{path}: damaged: removed and made anew"]
    assert not path.exists()


def test_the_least_recently_used_entries_go_first(cache: Path) -> None:
    store = Kept("key", print)
    for number, name in enumerate("abc"):
        store.save(name, bytes(100))
        os.utime(cache / store._file(name), (number, number))
    assert store.load("a") == bytes(100)
    keep_to(cache, 2 * 132)
    assert [name for name in "abc" if store.load(name) is not None] == ["a", "c"]


@pytest.mark.long
def test_a_kept_held_out_set_is_the_drawn_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = LayeredGraph(depth=2, width=2, num_ids=8)
    drawn = kept_examples(task, 5, 0, "held-out")
    with monkeypatch.context() as patch:
        patch.setattr(kept, "draw_examples", lambda *_: pytest.fail("drawn again"))
        again = kept_examples(task, 5, 0, "held-out")
    for other in (again, draw_examples(task, 5, 0, "held-out")):
        assert jax.tree.structure(other) == jax.tree.structure(drawn)
        for one, two in zip(jax.tree.leaves(drawn), jax.tree.leaves(other), strict=True):
            assert one.dtype == two.dtype
            np.testing.assert_array_equal(one, two, strict=True)


@pytest.mark.long
def test_a_kept_overlap_is_the_counted_one(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Dyck(prefix_lengths=(2, 4))
    held_out = make_held_out(task, 20, 8, 0)

    def phase(steps: int) -> Phase:
        schedule = EvaluationSchedule()
        return Phase("train", task, CrossEntropy(), optax.identity(), steps, 8, None, schedule, 1)

    counted = kept_overlap(phase(40), held_out, 0)
    assert counted == overlap.overlap(phase(40), held_out, 0)
    assert counted["share"] > 0
    with monkeypatch.context() as patch:
        patch.setattr(overlap, "overlap", lambda *_: pytest.fail("counted again"))
        assert kept_overlap(phase(40), held_out, 0) == counted
    for other, seed in ((phase(41), 0), (phase(40), 1)):
        assert kept_overlap(other, held_out, seed) == overlap.overlap(other, held_out, seed)
    assert len(entries(cache)) == 3


WRITER = """
import sys
from covlab.launch.kept import Kept
for _ in range(40):
    Kept("key").save("run", bytes([int(sys.argv[1])]) * 300_000)
"""


@pytest.mark.long
def test_two_processes_that_write_one_entry_leave_a_whole_one(cache: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(number)]) for number in (1, 2)]
    said: list[str] = []
    whole = [bytes([number]) * 300_000 for number in (1, 2)]
    while any(writer.poll() is None for writer in writers):
        found = Kept("key", said.append).load("run")
        assert found is None or found in whole
    assert [writer.returncode for writer in writers] == [0, 0]
    assert Kept("key", said.append).load("run") in whole
    assert not said
    assert len(entries(cache)) == 1


@pytest.mark.long
def test_a_run_with_kept_programs_is_the_run_without_byte_for_byte(
    cache: Path,
    jax_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compose_config: Callable[..., DictConfig],
) -> None:
    config = compose_config("train", *TINY)
    counted: list[Any] = []
    compile_ = KeptFunction._compile
    monkeypatch.setattr(
        KeptFunction, "_compile", lambda *given: counted.append(given[0]._name) or compile_(*given)
    )
    monkeypatch.setattr(keys, "patched", lambda: False)

    def train(name: str, stop: Callable[[], str | None] = lambda: None) -> bytes:
        # All that is written in the background is on disk in the end.
        with ThreadPoolExecutor(2) as threads, monkeypatch.context() as patch:
            patch.setattr(training.kept, "_threads", lambda: threads)
            train_run(config, tmp_path / name, stop)
        return (tmp_path / name / "metrics.jsonl").read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr(keys, "enabled", False)
        plain_run = train("without")
    assert not counted
    assert train("filling") == plain_run
    assert counted
    # The same from JAX's own cache, which has all programs now.
    compiled = {path: path.stat().st_mtime_ns for path in jax_cache.glob("*-cache")}
    cold = entries(cache)
    shutil.rmtree(cache)
    assert train("filling again") == plain_run
    assert {path: path.stat().st_mtime_ns for path in jax_cache.glob("*-cache")} == compiled
    filled = entries(cache)
    assert filled.keys() == cold.keys()
    counted.clear()
    calls = iter(range(100))
    train("kept", lambda: "asked to" if next(calls) >= 3 else None)
    assert train("kept") == plain_run
    assert not counted
    assert entries(cache) == filled
    for path in cache.iterdir():
        data = b"nothing"
        path.write_bytes(hashlib.sha256(data).digest() + data)
    assert train("spoiled") == plain_run
    assert counted


LAB = {
    "lab_of_test_kept/__init__.py": "",
    "lab_of_test_kept/task.py": """
import dataclasses
import jax
from tasks import Dyck

@dataclasses.dataclass(frozen=True)
class Mine(Dyck):
    def sample(self, key, proposal=None):
        return super().sample(jax.random.fold_in(key, 1), proposal)
""",
    "lab_of_test_kept/conf/task/mine.yaml": "defaults: [/schema/lab_of_test_kept.task.Mine@_here_]\n",
}
RUN = (
    *("task=mine", "steps=3", "log_every=1", "model.num_layers=1", "model.width=8", "model.num_heads=2"),
    *("batch_size=4", "evaluation.num_examples=4", "tracking.wandb=disabled", "tracking.progress=false"),
    *("tracking.figures=false", "evaluation.table_prompts=0"),
)


@pytest.mark.slow
def test_a_changed_line_of_an_outside_task_gives_a_new_program(tmp_path: Path) -> None:
    for name, text in LAB.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def train(name: str, cache: str) -> bytes:
        # The system tells the start of a process to a hundredth of a second; a file must be older.
        time.sleep(0.1)
        command = [sys.executable, "-m", "experiments.train", "--config-dir", "lab_of_test_kept/conf", *RUN]
        paths = os.pathsep.join([str(tmp_path), str(Path.cwd())])
        environment = os.environ | {"COVLAB_CACHE": str(tmp_path / cache), "PYTHONPATH": paths}
        done = subprocess.run(
            [*command, f"name={name}"],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return (tmp_path / "runs" / "train" / name / "metrics.jsonl").read_bytes()

    kept_programs = tmp_path / "cache" / "kept"
    first = train("first", "cache")
    filled = entries(kept_programs)
    assert filled
    assert train("again", "cache") == first
    assert entries(kept_programs) == filled
    task = tmp_path / "lab_of_test_kept" / "task.py"
    task.write_text(task.read_text().replace("(key, 1)", "(key, 2)"))
    changed = train("changed", "cache")
    assert changed == train("fresh", "empty")
    assert changed != first
    assert len(entries(kept_programs)) == 2 * len(filled)
    task.write_text(task.read_text().replace("(key, 2)", "(key, 1)"))
    assert train("back", "cache") == first
