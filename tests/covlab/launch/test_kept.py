import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from omegaconf import DictConfig

import training.kept
from covlab.launch import kept
from covlab.launch.build import build, plain
from covlab.launch.kept import Kept, keep_to, kept_examples
from covlab.launch.programs import kept_for
from covlab.launch.runs import train_run
from metrics.evaluators import draw_examples
from tasks import LayeredGraph, drawing
from training.kept import KeptFunction

TINY = (
    "task.depth=2", "task.width=2", "task.num_ids=8",
    "model.width=16", "model.num_layers=1", "model.num_heads=2", "steps=20", "batch_size=8",
    "evaluation.schedule.every=5", "evaluation.num_examples=16", "evaluation.table_prompts=0",
    "tracking.wandb=disabled", "tracking.figures=false", "tracking.progress=false",
)  # fmt: skip


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache that this process uses."""
    monkeypatch.setenv("COVLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "enabled", True)
    kept._surroundings.cache_clear()
    yield tmp_path / "cache" / "kept"
    kept._surroundings.cache_clear()


def entries(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*")}


def test_the_key_depends_on_sources_constants_and_settings(
    cache: Path, monkeypatch: pytest.MonkeyPatch, compose_config: Callable[..., DictConfig]
) -> None:
    def key(*overrides: str) -> str:
        kept._surroundings.cache_clear()
        config = compose_config("train", *TINY, *overrides)
        setup = build(config)
        return kept_for(plain(config), setup, setup.layout(config), print).key

    first = key()
    assert len(first) == 64
    assert key("seed=3", "name=other", "tracking.project=other") == key() == first
    changed = [key("steps=41"), key("seeds=2"), key("task.num_ids=9"), key("model.init_std=0.03")]
    with monkeypatch.context() as patch:
        patch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=true")
        changed.append(key())
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "SMALLEST", 2e-18)
        changed.append(key())
    with monkeypatch.context() as patch:
        real = list(kept._sources())
        patch.setattr(kept, "_sources", lambda: [*real[:-1], (real[-1][0], real[-1][1] + "# more\n")])
        changed.append(key())
    assert len({first, *changed}) == 1 + len(changed)
    with monkeypatch.context() as patch:
        patch.setattr(drawing, "gumbel", lambda key, shape: None)
        assert key() == ""
    assert key() == first


def test_nothing_is_kept_for_classes_of_other_packages(
    cache: Path, compose_config: Callable[..., DictConfig]
) -> None:
    config = compose_config("train", *TINY)
    setup = build(config)
    layout = setup.layout(config)
    other = dataclasses.make_dataclass("Other", [], bases=(LayeredGraph,), frozen=True)
    other.__module__ = "elsewhere"
    phases = (dataclasses.replace(setup.phases[0], task=other()),)
    assert kept_for(plain(config), setup, layout, print).key
    assert not kept_for(plain(config), dataclasses.replace(setup, phases=phases), layout, print).key
    assert not kept_for(plain(config), dataclasses.replace(setup, described=False), layout, print).key
    given = plain(config) | {"optimizer": {"_target_": "elsewhere.adam"}}
    assert not kept_for(given, setup, layout, print).key


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


def test_a_run_with_kept_programs_is_the_run_without_byte_for_byte(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose_config: Callable[..., DictConfig]
) -> None:
    config = compose_config("train", *TINY)
    counted: list[Any] = []
    compile_ = KeptFunction._compile
    monkeypatch.setattr(
        KeptFunction, "_compile", lambda *given: counted.append(given[0]._name) or compile_(*given)
    )
    monkeypatch.setattr(kept, "patched", lambda: False)

    def train(name: str, stop: Callable[[], str | None] = lambda: None) -> bytes:
        # All that is written in the background is on disk in the end.
        with ThreadPoolExecutor(2) as threads, monkeypatch.context() as patch:
            patch.setattr(training.kept, "_threads", lambda: threads)
            train_run(config, tmp_path / name, stop)
        return (tmp_path / name / "metrics.jsonl").read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr(kept, "enabled", False)
        plain_run = train("without")
    assert not counted
    assert train("filling") == plain_run
    assert counted
    filled = entries(cache)
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
