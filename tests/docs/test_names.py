"""Names that the documentation gives in code exist, and a package's names do not hide its modules."""

from __future__ import annotations

import importlib
import re
import types
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    *("tasks", "models", "decoding", "metrics", "training", "tracking"),
    *("theory", "covlab", "experiments", "benchmarks"),
)
# `tasks`, `decoding` and `tracking` also begin names of settings; `metrics.jsonl` is a file.
WRITTEN = re.compile(r"`((?:metrics|models|training|experiments|benchmarks)(?:\.\w+)+)")
PAGES = sorted(path.relative_to(ROOT) for path in (ROOT / "docs").glob("*.md"))


def resolved(name: str) -> Any:
    """Object that the dotted name means after `import` of its package, and of its modules."""
    package, *rest = name.split(".")
    found: Any = importlib.import_module(package)
    for part in rest:
        if not hasattr(found, part) and isinstance(found, types.ModuleType):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_names_in_the_documentation_exist(page: Path) -> None:
    names = set(WRITTEN.findall((ROOT / page).read_text(encoding="utf-8"))) - {"metrics.jsonl"}
    for name in sorted(names):
        assert resolved(name) is not None, name


@pytest.mark.parametrize("package", PACKAGES)
def test_no_name_of_a_package_hides_a_module(package: str) -> None:
    for file in sorted((ROOT / package).rglob("__init__.py")):
        parent = importlib.import_module(".".join(file.parent.relative_to(ROOT).parts))
        for module in sorted(file.parent.glob("[!_]*.py")):
            value = getattr(parent, module.stem, None)
            assert value is None or isinstance(value, types.ModuleType), f"{parent.__name__}.{module.stem}"


def test_a_function_and_its_module_can_both_be_imported() -> None:
    import metrics
    import metrics.inference_pessimism
    import metrics.pass_rates
    import metrics.sampled_rewards

    assert metrics.inference_pessimism.pessimism is metrics.pessimism
    assert metrics.inference_pessimism.regret_bound is metrics.regret_bound
    assert metrics.sampled_rewards.best_of_n is metrics.best_of_n
    assert metrics.pass_rates.pass_at_n is metrics.pass_at_n


def test_the_regret_bound_of_the_documentation() -> None:
    # docs/post_training.md: 2 eps sqrt(C) at beta = eps/sqrt(C).
    assert resolved("metrics.regret_bound")(0.04, 16.0, 0.01) == pytest.approx(0.32)
