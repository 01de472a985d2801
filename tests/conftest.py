"""JAX as the tests want it, several CPU devices, and commands in this process."""

from __future__ import annotations

import copy
import functools
import importlib.resources
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import pytest
from hydra import compose, initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from jax._src import compilation_cache
from omegaconf import DictConfig, OmegaConf

# On a machine with an accelerator: COVLAB_TEST_PLATFORM=cuda pytest tests/models tests/metrics
jax.config.update("jax_platforms", os.environ.get("COVLAB_TEST_PLATFORM", "cpu"))
if jax.config.jax_platforms != "cpu":
    # Functions that a program would call with exact products are called here without it.
    jax.config.update("jax_default_matmul_precision", "highest")

from covlab.claims.claim import register  # noqa: E402
from covlab.launch import keys  # noqa: E402
from covlab.launch.runs import train_run  # noqa: E402
from covlab.launch.runtime import configure  # noqa: E402
from covlab.launch.schema import register_schemas  # noqa: E402
from covlab.report.verdict import Verdict  # noqa: E402
from covlab.testing import commands  # noqa: E402
from covlab.testing.claims import run_tiny  # noqa: E402
from covlab.testing.commands import Ended  # noqa: E402
from metrics.evaluators import Evaluator, HeldOut  # noqa: E402
from models import Model  # noqa: E402
from training import Grid, Phase, Program, loop, make_program  # noqa: E402

configure(devices=4)
# Tests replace functions and constants of the packages, and share programs in their own ways.
keys.enabled = False
# `oracles` is imported by name, whatever pytest's import mode is.
sys.path.append(str(Path(__file__).parent))

from oracles.contracts import contract_of  # noqa: E402

STRICT = ("tasks", "models", "decoding")
OPTIMISED = ("benchmarks/", "covlab/plan/", "training/test_kept.py", "training/test_devices.py")
"""Tests that judge what XLA's optimisation makes; so do all that start a process of their own."""


@pytest.fixture(scope="module", autouse=True)
def dtype_promotion(request: pytest.FixtureRequest) -> Iterator[None]:
    """No implicit promotion of dtypes where the code is ours alone: optax's Adam itself relies on it."""
    with jax.numpy_dtype_promotion("strict" if request.path.parent.name in STRICT else "standard"):
        yield


@pytest.fixture(scope="module", autouse=True)
def compilation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Half the compilation time: numbers are the same to rounding without most of XLA's optimisation."""
    optimised = os.path.relpath(request.path, Path(__file__).parent).startswith(OPTIMISED)
    jax.config.update("jax_disable_most_optimizations", not optimised)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    # Compiled programs stay in memory, several mappings each, and XLA crashes where the system has no more.
    if mappings() > MOST_MAPPINGS:
        jax.clear_caches()


MOST_MAPPINGS = 20_000
"""Memory mappings of this process above which a test file drops what it compiled; Linux allows 65,530."""


def mappings() -> int:
    """Number of memory mappings of this process; 0 where the system does not tell."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return 0


SLOWEST = ("experiments", "covlab", "faults", "training", "docs")
"""Folders whose tests take longest, in this order."""


def group_of(nodeid: str) -> str:
    """The tests that stay in one worker: a file's share what they compile, a claim's folder and contract the
    claim's tiny run."""
    file, _, test = nodeid.partition("::")
    parts = file.removeprefix("tests/").split("/")
    if file == "tests/experiments/test_contract.py":
        parts[1] = re.split(r"[\[\]-]", test + "[")[1]
    return "/".join(parts[:2] if parts[0] == "experiments" else parts)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """`--dist loadgroup` by `group_of`: the marks that xdist 3.8 groups by have no effect in pytest 9.2."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return Scheduling(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a claim's tiny run, and put folders that take long first: the last tests
    should be short."""
    for item in items:
        if "tiny_claim" in getattr(item, "fixturenames", ()):
            parameters = getattr(item, "callspec", None)
            name = item.path.parent.name if parameters is None else parameters.params["name"]
            item.add_marker(pytest.mark.slow if contract_of(name).get("slow") else pytest.mark.long)

    def late(item: pytest.Item) -> tuple[int, bool]:
        parts = Path(os.path.relpath(item.path, Path(__file__).parent)).parts
        folder = SLOWEST.index(parts[0]) if parts[0] in SLOWEST else len(SLOWEST)
        return folder, len(parts) < 3

    items.sort(key=late)


TINY = (
    "task.depth=2", "task.width=2", "task.num_ids=8", "task.edge_order=shuffled", "task.separators=true",
    "model.width=16", "model.num_layers=1", "model.num_heads=2", "steps=40", "batch_size=8",
    "evaluation.schedule.every=5", "evaluation.num_examples=16", "tracking.wandb=disabled",
)  # fmt: skip


@pytest.fixture(scope="session")
def tiny() -> tuple[str, ...]:
    """Overrides that make a run of experiments.train take a moment."""
    return TINY


@pytest.fixture(scope="session")
def compose_config() -> Callable[..., DictConfig]:
    """`compose_config("train", "steps=3")`: the configuration that a command line would give.

    Hydra chooses the files first and then sets values, so that what is chosen is composed once.
    """

    @functools.cache
    def chosen(name: str, *groups: str) -> DictConfig:
        register_schemas()
        spec = importlib.util.find_spec(f"experiments.{name}")
        if spec is not None and spec.submodule_search_locations is not None:
            claim = getattr(importlib.import_module(f"experiments.{name}"), "CLAIM", None)
            if claim is not None:
                register(claim)
        GlobalHydra.instance().clear()
        with initialize_config_module("conf", version_base="1.3"):
            return compose(name, overrides=list(groups))

    folder = Path(str(importlib.resources.files("conf")))

    def composed(name: str, *overrides: str) -> DictConfig:
        values = OverridesParser.create().parse_overrides(list(overrides))
        groups = [each for each in values if (folder / each.key_or_group.partition("@")[0]).is_dir()]
        config = copy.deepcopy(chosen(name, *(str(each.input_line) for each in groups)))
        ConfigLoaderImpl._apply_overrides_to_config([each for each in values if each not in groups], config)
        return config

    return composed


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory, compose_config: Callable[..., DictConfig]) -> Path:
    """A complete run of two phases and two seeds; the second phase has a stochastic pi_D. Read only."""
    path = tmp_path_factory.mktemp("runs") / "train" / "tiny"
    config = compose_config(
        "train",
        *TINY,
        "seeds=2",
        "steps=20",
        "optimizer.learning_rate=0.01",
        "checkpoint.parameters=evaluations",
        "evaluation.table_prompts=0",
        "tracking.progress=false",
        "tracking.figures=false",
        "+phases.pretrain={}",
        "+phases.finetune={task:{mixture:{G1:0.5,G2:0.2,G3:0.3}}}",
    )
    assert train_run(config, path).state == "complete"
    return path


@pytest.fixture(scope="module")
def shared_programs() -> Iterator[None]:
    """Trainers of a file with equal settings and one held-out set share what they compile."""
    made: dict[Any, tuple[HeldOut, Program]] = {}

    def program_of(
        model: Model,
        phase: Phase,
        evaluators: tuple[Evaluator, ...],
        held_out: HeldOut,
        grid: Grid,
        batching: Any,
    ) -> Program:
        key = (model, phase, evaluators, id(held_out), grid.layout, batching)
        if key not in made:
            # With the set, so that no other one takes its id.
            made[key] = held_out, make_program(model, phase, evaluators, held_out, grid, batching)
        return made[key][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_program", program_of)
        yield


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Ended]:
    """`call(main, "key=value", ...)`: a command's `main` in this process, below `tmp_path`."""

    def called(main: Callable[[], None], *arguments: str) -> Ended:
        monkeypatch.chdir(tmp_path)
        return commands.call(main, arguments, tmp_path)

    return called


@pytest.fixture(scope="session")
def command_line() -> Callable[[str, Sequence[str]], tuple[list[str], dict[str, str]]]:
    """`command_line("train", overrides)`: arguments and environment of a process of its own."""
    root = Path(__file__).parents[1]

    def line(module: str, arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
        environment |= {"PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}
        return [sys.executable, "-m", f"experiments.{module}", *arguments], environment

    return line


@pytest.fixture(scope="session")
def refuses(compose_config: Callable[..., DictConfig]) -> Callable[..., None]:
    """`refuses(settings, "claim", ["key=value"], message)`: `settings` of a claim's configuration with these
    values raises one line that begins with `message`."""
    plain = functools.cache(compose_config)

    def check(settings: Callable[[Any], Any], name: str, overrides: list[str], message: str) -> None:
        config = OmegaConf.merge(plain(name), OmegaConf.from_dotlist(overrides))
        with pytest.raises(ValueError, match=f"^{re.escape(message)}") as error:
            settings(config)
        assert "\n" not in str(error.value)

    return check


@pytest.fixture
def run_claim(tmp_path: Path, command_line: Callable[..., Any]) -> Callable[..., tuple[Verdict, Path]]:
    """`run_claim("claim", "key=value", ...)`: the verdict of the command in a process of its own, and its
    directory."""

    def run(name: str, *overrides: str) -> tuple[Verdict, Path]:
        arguments, environment = command_line(name, [*overrides, "name=tiny", f"root={tmp_path}"])
        root = Path(__file__).parents[1]
        done = subprocess.run(
            arguments, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=1200
        )
        assert done.returncode == 0, done.stderr
        path = tmp_path / name / "tiny"
        return Verdict.read(path / "verdict.json"), path

    return run


@pytest.fixture(scope="session")
def tiny_claim(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_claim("figure1")`: the directory of the claim's run with the overrides `tiny` of its
    contract.yaml, made once. Read only."""

    @functools.cache
    def path(name: str) -> Path:
        claim = importlib.import_module(f"experiments.{name}").CLAIM
        return run_tiny(claim, contract_of(name)["tiny"], tmp_path_factory.mktemp("claims"))

    return path


@pytest.fixture
def jax_cache(tmp_path: Path) -> Iterator[Path]:
    """JAX's own compilation cache, empty."""
    before = jax.config.values["jax_compilation_cache_dir"]
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "jax"))
    yield tmp_path / "jax"
    compilation_cache.reset_cache()
    jax.config.update("jax_compilation_cache_dir", before)
