from __future__ import annotations

import os

import pytest
from oracles.fake_wandb import install


@pytest.fixture(autouse=True)
def no_account(tmp_path_factory, monkeypatch) -> None:
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def fake(monkeypatch):
    return install(monkeypatch)
