"""Keys of kept programs: everything that a program depends on changes the key, or there is none."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from omegaconf import DictConfig

import tasks.path_star
from covlab.launch import keys
from covlab.launch.build import build, plain
from covlab.launch.kept import Kept
from covlab.launch.keys import Described, Unknown, key_of
from covlab.launch.programs import kept_for
from tasks import LayeredGraph, PathStar, drawing, layered_graph

TINY = (
    "task.depth=2", "task.width=2", "task.num_ids=8",
    "model.width=16", "model.num_layers=1", "model.num_heads=2",
)  # fmt: skip


STARTED = keys.started


@pytest.fixture(autouse=True)
def on(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keys, although tests have none otherwise; files that were changed since pytest began count."""
    monkeypatch.setattr(keys, "enabled", True)
    monkeypatch.setattr(keys, "started", time.time)
    monkeypatch.setattr(keys, "_paths", set())
    keys._installation.cache_clear()
    yield
    keys._installation.cache_clear()


@dataclasses.dataclass(frozen=True)
class Quiet:
    """A class whose `repr` leaves out a field and shortens another."""

    shown: Any = 1
    hidden: Any = dataclasses.field(default=2, repr=False)


@dataclasses.dataclass(frozen=True)
class Twin:
    """A class with the fields of `Quiet`."""

    shown: Any = 1
    hidden: Any = 2


def long_array(last: float) -> np.ndarray:
    return np.array([0.0] * 5000 + [last])


DIFFERENT: tuple[Any, ...] = (
    1, 1.0, True, "1", b"1", None, -0.0, 0.0, 0.1, 0.1 + 2**-56, (1, 2), [1, 2], (1, (2,)), ((1,), 2),
    "(1, 2)",
    {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1}, frozenset({1, 2}), {1, 2}, Quiet(), Quiet(hidden=3), Twin(),
    Quiet(shown=long_array(0.0)), Quiet(shown=long_array(1e-12)), long_array(0.0), long_array(1e-12),
    np.zeros(2), np.zeros(2, np.float32), np.zeros((2, 1)), np.float32(0), jnp.zeros(3), Quiet, Twin,
    jax.nn.relu, jax.nn.gelu,
)  # fmt: skip


def test_no_two_values_have_one_text() -> None:
    texts = [Described().text(value) for value in DIFFERENT]
    same = {(i, j) for i, one in enumerate(texts) for j, other in enumerate(texts) if i < j and one == other}
    assert not same
    assert Described().text(Quiet(long_array(2.0))) == Described().text(Quiet(long_array(2.0)))


def test_what_no_text_describes_has_no_key() -> None:
    class Local:
        """A class that is not found by its name."""

    for value in (lambda: 1, Local(), Local, object(), Quiet(hidden=lambda: 1), np.array([None])):
        with pytest.raises(Unknown):
            Described().text(value)
        assert key_of(value) == ""
    assert len(key_of(1)) == 64


@pytest.fixture
def run_key(compose_config: Callable[..., DictConfig]) -> Callable[..., str]:
    """Key of the programs of a run with these overrides."""

    def key(*overrides: str) -> str:
        keys._installation.cache_clear()
        config = compose_config("train", *TINY, *overrides)
        setup = build(config)
        return kept_for(plain(config), setup, setup.layout(config)).key

    return key


@pytest.mark.long
def test_a_run_has_one_key_for_all_names_and_seeds_and_another_for_each_setting(
    run_key: Callable[..., str],
) -> None:
    first = run_key()
    assert len(first) == 64
    assert run_key("seed=3", "name=other", "tracking.project=other") == run_key() == first
    changed = [
        run_key(one)
        for one in (
            "steps=41", "seeds=2", "task.num_ids=9", "model.init_std=0.03", "optimizer.learning_rate=0.1",
            "objective=label_smoothing", "batch_size=32", "evaluation.num_examples=17", "evaluation.seed=1",
            "data_parallel=2", "evaluation.coverage_ns=[2]", "dataset_size=10",
        )
    ]  # fmt: skip
    assert len({first, *changed} - {""}) == 1 + len(changed)


def settings() -> dict[str, Any]:
    """JAX's settings in this thread that a program or its rounding depends on."""
    return {
        "x64": jax.enable_x64(True),
        "precision": jax.default_matmul_precision("highest"),
        "promotion": jax.numpy_dtype_promotion("strict"),
        "nans": jax.debug_nans(True),
    }


def test_settings_variables_constants_code_versions_and_devices_are_in_every_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def key() -> str:
        keys._installation.cache_clear()
        return key_of("program")

    first = key()
    found = {}
    for name, context in settings().items():
        with context:
            # Within one process too: nothing of the settings is remembered.
            found[name] = key_of("program")
    option = "jax_disable_most_optimizations"
    now = jax.config.values[option]
    jax.config.update(option, not now)
    found[option] = key_of("program")
    jax.config.update(option, now)

    def changed(name: str, *patch: Any) -> None:
        with monkeypatch.context() as context:
            context.setattr(*patch)
            found[name] = key()

    with monkeypatch.context() as context:
        context.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=true")
        found["flags"] = key_of("program")
    changed("constant", drawing, "SMALLEST", 2e-18)
    changed("table", layered_graph, "CLASSES", dict(list(layered_graph.CLASSES.items())[1:]))
    real = keys.sources()
    changed("source", keys, "sources", lambda: [*real[:-1], (real[-1][0], "other")])
    times = list(keys._times("jax"))
    changed("edited jax", keys, "_times", lambda name: [*times[:-1], times[-1] + "1"])
    installed = keys._distributions()
    assert any(name.startswith("jaxlib-") for name in installed)
    assert any(name.startswith("flax-") for name in installed)
    for library in ("jax", "jaxlib", "flax"):
        newer = [name.replace(f"{library}-0.", f"{library}-9.") for name in installed]
        assert newer != installed
        changed(library, keys, "_distributions", lambda newer=newer: newer)
    changed("processor", keys, "_processor", lambda: ["another"])
    devices = jax.devices()
    changed("devices", jax, "devices", lambda: devices[:1])
    assert key() == first
    assert len({first, *found.values()} - {""}) == 1 + len(found), found


def test_replaced_code_and_several_processes_have_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_key(*patch: Any) -> bool:
        with monkeypatch.context() as context:
            context.setattr(*patch)
            return key_of("program") == ""

    assert not keys.patched()
    assert without_key(drawing, "gumbel", lambda key, shape: None)
    assert without_key(LayeredGraph, "sample_group", lambda self, key, group: None)
    assert without_key(LayeredGraph, "groups", property(lambda self: ()))
    # Code of the packages, in a place that it does not come from.
    assert without_key(LayeredGraph, "sample_group", PathStar.sample_group)
    assert without_key(keys.jax, "process_count", lambda: 2)
    assert without_key(keys, "enabled", False)
    assert key_of("program")


def test_files_that_changed_since_the_process_began_have_no_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # What was imported may be the text before the change.
    changed = Path(tasks.path_star.__file__).stat().st_ctime
    newest = max(os.stat(path).st_ctime for path in keys._below(str(keys._root() / "tasks"), ".py"))
    monkeypatch.setattr(keys, "started", lambda: changed - 1)
    assert key_of("program") == ""
    monkeypatch.setattr(keys, "started", lambda: newest + 1e6)
    assert key_of("program")
    # Nor is anything saved that was compiled after a change.
    monkeypatch.setenv("COVLAB_CACHE", str(tmp_path))
    Kept("key").save("before", b"")
    assert Kept("key").load("before") == b""
    monkeypatch.setattr(keys, "started", lambda: changed - 1)
    assert key_of("program") == ""
    Kept("key").save("after", b"")
    assert Kept("key").load("after") is None


def test_the_start_of_the_process_is_told_by_the_system() -> None:
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    age = uptime - ticks / os.sysconf("SC_CLK_TCK")
    assert STARTED() == pytest.approx(time.time() - age, abs=0.5)


OUTSIDE = {
    "lab_of_test_keys/__init__.py": "",
    "lab_of_test_keys/task.py": """
import dataclasses
import jax
from tasks import Dyck

@dataclasses.dataclass(frozen=True)
class Mine(Dyck):
    def sample(self, key, proposal=None):
        return super().sample(jax.random.fold_in(key, 1), proposal)
""",
    "lab_of_test_keys/table.txt": "1 2 3",
    "neighbour_of_test_keys.py": "NUMBER = 1\n",
}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on Python's path with a package that has a task, and a module beside it."""
    root = tmp_path / "site"
    for name, text in OUTSIDE.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.syspath_prepend(str(root))
    importlib.invalidate_caches()
    yield root
    for name in [name for name in sys.modules if name.partition(".")[0] == "lab_of_test_keys"]:
        del sys.modules[name]


def test_a_line_of_an_outside_package_is_in_the_key(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = importlib.import_module("lab_of_test_keys.task").Mine()
    alone = key_of("program")
    first = key_of("program", task)
    assert len({"", alone, first, key_of("program", targets=["lab_of_test_keys.task.Mine"])}) == 4
    found = []
    for name, old, new in (
        ("lab_of_test_keys/task.py", "(key, 1)", "(key, 2)"),
        ("lab_of_test_keys/table.txt", "2", "5"),
        ("neighbour_of_test_keys.py", "1", "2"),
    ):
        text = (lab / name).read_text()
        (lab / name).write_text(text.replace(old, new))
        found.append(key_of("program", task))
        (lab / name).write_text(text)
        assert key_of("program", task) == first
    (lab / "another.py").write_text("")
    found.append(key_of("program", task))
    assert len({"", first, *found}) == 2 + len(found)
    # Nothing of it changes the key of a run without it.
    assert key_of("program") == alone
    # A process that began before the change may have imported the text before it.
    monkeypatch.setattr(keys, "started", lambda: (lab / "another.py").stat().st_ctime - 1)
    assert key_of("program", task) == ""


def test_a_package_that_cannot_be_read_whole_has_no_key(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert key_of("program", targets=["lab_of_test_keys.task.Mine"])
    for limit in ("MOST_FILES", "MOST_BYTES"):
        with monkeypatch.context() as context:
            context.setattr(keys, limit, 2)
            assert key_of("program", targets=["lab_of_test_keys.task.Mine"]) == ""
    for target in ("__main__.Mine", "no_such_package.Mine", "builtins_of_mine.x"):
        assert key_of("program", targets=[target]) == ""
