"""docs/add_a_model.md is executed: its tests run here, its commands in a copy of the project."""

from __future__ import annotations

import functools
import importlib.util
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from decoding.sampling import sample_responses
from models import Flax

pytestmark = pytest.mark.long

FILES = (
    *("my_models.py", "tests/test_my_models.py"),
    *("models/bilinear.py", "conf/model/bilinear.yaml", "tests/models/test_bilinear.py"),
)
MOST_LINES = 12
"""Lines of code of a GRU without fast decoding, glue included."""


@pytest.fixture
def page_modules(
    read_guide: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The page's Python files as modules, by their names."""
    sections = read_guide("add_a_model.md").sections()
    assert tuple(sections) == FILES
    found = {}
    for name in (each for each in FILES if each.endswith(".py")):
        file = tmp_path / Path(name).name
        file.write_text(sections[name])
        module = ".".join(Path(name).with_suffix("").parts)
        spec = importlib.util.spec_from_file_location(module, file)
        assert spec is not None
        assert spec.loader is not None
        found[name] = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, module, found[name])
        spec.loader.exec_module(found[name])
    return found


def test_the_flax_module_of_the_page_is_short_and_passes_the_contract(
    page_modules: dict[str, Any], read_guide: Callable[[str], Any], tmp_path: Path
) -> None:
    lines = read_guide("add_a_model.md").sections()["my_models.py"].partition("    def initial_carry")[0]
    code = [line for line in lines.splitlines() if line.strip() and "jnp" not in line]
    assert len(code) <= MOST_LINES
    contract = page_modules["tests/test_my_models.py"].TestGRU
    (case,) = contract.pytestmark[0].args[1]
    tests = [getattr(contract(), name) for name in dir(contract) if name.startswith("test_")]
    assert len(tests) == 7
    for test in tests:
        test(*case.values, **({"tmp_path": tmp_path} if "saved" in test.__name__ else {}))


def test_the_flax_module_of_the_page_needs_no_step(page_modules: dict[str, Any]) -> None:
    """Without the two optional methods it has the same law."""
    whole = page_modules["my_models.py"].GRU
    plain = type("Plain", (nnx.Module,), {name: getattr(whole, name) for name in ("__init__", "__call__")})
    fast, slow = (Flax(9, 4, 3, module=functools.partial(kind, width=8)) for kind in (whole, plain))
    params = fast.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    prompt, mask = rng.integers(1, 9, (2, 4)), np.ones((2, 4), bool)
    (drawn, log_probs), (others, expected) = (
        sample_responses(model, params, prompt, mask, jax.random.key(1), 5) for model in (fast, slow)
    )
    np.testing.assert_array_equal(drawn, others)
    np.testing.assert_allclose(log_probs, expected, rtol=1e-4)


def test_the_model_without_flax_passes_its_tests(page_modules: dict[str, Any]) -> None:
    loaded = page_modules["tests/models/test_bilinear.py"]
    tests = [value for key, value in vars(loaded).items() if key.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


@pytest.mark.slow
def test_the_commands_of_the_page_run_in_their_order(open_guide: Callable[[str], Any]) -> None:
    guide = open_guide("add_a_model.md")
    assert [module for module, _ in guide.commands()] == [
        *("experiments.train", "experiments.train", "experiments.compare"),
        *("experiments.train", "experiments.train", "experiments.compare"),
    ]
    for module, arguments in guide.commands():
        short = ["steps=20", "tracking.wandb=disabled"] if module == "experiments.train" else []
        words = [word for word in shlex.split(arguments) if not word.startswith("steps=")]
        guide.run("-m", module, *words, *short)
    assert (guide.root / "runs" / "compare" / "report.html").is_file()
