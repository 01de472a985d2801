"""The tiny run of a claim, as overrides and as settings."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import DictConfig
from oracles.contracts import contract_of

from covlab.claims.settings import read


@pytest.fixture(scope="session")
def tiny_config(compose_config: Callable[..., DictConfig]) -> Callable[[str], DictConfig]:
    """`tiny_config("figure1")`: the claim's configuration with the overrides `tiny` of its contract."""
    return lambda name: compose_config(name, *contract_of(name)["tiny"])


@pytest.fixture(scope="session")
def tiny_settings(tiny_config: Callable[[str], DictConfig]) -> Callable[[str], Any]:
    """`tiny_settings("figure1")`: the settings of the claim's tiny run."""
    return lambda name: read(importlib.import_module(f"experiments.{name}").CLAIM.settings, tiny_config(name))
