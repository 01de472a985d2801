"""The tiny run of a claim, as overrides and as settings."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig

from covlab.claims.settings import read


@pytest.fixture(scope="session")
def tiny_config(compose_config: Callable[..., DictConfig]) -> Callable[[str], DictConfig]:
    """`tiny_config("figure1")`: the claim's configuration with the overrides `tiny` of its contract."""

    def composed(name: str) -> DictConfig:
        contract = yaml.safe_load((Path(__file__).parent / name / "contract.yaml").read_text())
        return compose_config(name, *contract["tiny"])

    return composed


@pytest.fixture(scope="session")
def tiny_settings(tiny_config: Callable[[str], DictConfig]) -> Callable[[str], Any]:
    """`tiny_settings("figure1")`: the settings of the claim's tiny run."""
    return lambda name: read(importlib.import_module(f"experiments.{name}").CLAIM.settings, tiny_config(name))
