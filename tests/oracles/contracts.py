"""Contracts of the claims: tests/experiments/<claim>/contract.yaml, described in test_contract.py there."""

import functools
from pathlib import Path
from typing import Any

import yaml


@functools.cache
def contract_of(claim: str) -> dict[str, Any]:
    """The claim's contract. Read only."""
    file = Path(__file__).parents[1] / "experiments" / claim / "contract.yaml"
    contract: dict[str, Any] = yaml.safe_load(file.read_text())
    return contract
