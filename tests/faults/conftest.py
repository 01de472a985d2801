"""A toy run in this process, the files of an undisturbed run, and a disk that can be filled."""

from __future__ import annotations

import gc
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from covlab.launch.schema import register_schemas
from models import Model
from tests.faults.processes import snapshot
from tests.faults.toy import toy_train
from training import Phase, Program, loop, make_program

Train = Callable[..., object]


@pytest.fixture(scope="session")
def config() -> DictConfig:
    """Configuration of the toy run: no W&B, no bar, no figures."""
    register_schemas()
    GlobalHydra.instance().clear()
    with initialize_config_module("conf", version_base="1.3"):
        return compose(
            "train", ["tracking.wandb=disabled", "tracking.progress=false", "tracking.figures=false"]
        )


@pytest.fixture(scope="session")
def train(config: DictConfig) -> Train:
    """`train(path, stop=...)`: the toy run in the run directory `path`, continuing what is there.

    All toy runs are of the same phases and sizes, so that they share the programs of the first one.
    """
    programs: dict[str, Program] = {}

    def program_of(model: Model, phase: Phase, *settings: object) -> Program:
        if phase.name not in programs:
            programs[phase.name] = make_program(model, phase, *settings)  # type: ignore[arg-type]
        return programs[phase.name]

    def trained(path: Path, **options: object) -> object:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "make_program", program_of)
            return toy_train(config, path, **options)  # type: ignore[arg-type]

    return trained


@pytest.fixture(scope="session")
def undisturbed(train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy run that nothing disturbed. Read only."""
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    train(path)
    return path


@pytest.fixture(scope="session")
def expected(undisturbed: Path) -> dict[str, str]:
    """Expected final files of every toy run."""
    return snapshot(undisturbed)


@pytest.fixture
def leftovers() -> Iterator[None]:
    """Collect the event loops that Orbax abandons when it fails, where its complaint is expected."""
    yield
    gc.collect()


class Disk:
    """A separate file system of 32 MB."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self) -> None:
        """Fill the disk completely."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096):
                block = bytes(size)
                try:
                    while file.write(block) == size:
                        pass
                except OSError:
                    pass

    def empty(self) -> None:
        """Make room again."""
        self._ballast.unlink()

    def remount(self, mode: str) -> None:
        """Remount as `ro` or `rw`."""
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.path)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A small tmpfs; skips where this user may not mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode != 0:
        pytest.skip(f"a file system of its own needs root: {mounted.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)
