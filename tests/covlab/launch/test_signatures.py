"""Signatures and settings read from the source are those of the imported objects."""

from __future__ import annotations

import importlib
import importlib.resources
import inspect
import re
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore

from covlab.claims.claim import register
from covlab.claims.stored import store_from_source
from covlab.launch import schema as schemas
from covlab.launch.commands import commands
from covlab.launch.signatures import module_file, read_signature

CONF = Path(str(importlib.resources.files("conf")))
NAMES = sorted(
    {
        name
        for file in CONF.rglob("*.yaml")
        for name in re.findall(r"/schema/([\w.]+)@", file.read_text(encoding="utf-8"))
    }
)
UNTRAINED = [each for each in commands().values() if each.is_claim and each.config_name is None]
IMPORTED = {"token_sgd", "truncated_distillation"}
"""Claims whose defaults are computed."""


def test_every_schema_is_read_from_the_source_as_it_would_be_imported() -> None:
    assert len(NAMES) > 40
    for name in NAMES:
        read, imported = read_signature(name), schemas._imported_signature(name)
        assert read is not None, name
        fields = [(each.name, each.plain, each.default if each.plain else None) for each in read.fields]
        assert fields == [
            (each.name, each.plain, each.default if each.plain else None) for each in imported.fields
        ], name
        assert read.summary == imported.summary
        undocumented = [each.name for each in read.fields if not each.doc]
        assert undocumented == [], f"{name}: no explanation of {undocumented}"


def test_settings_of_claims_are_read_from_the_source_as_they_would_be_registered() -> None:
    store = ConfigStore.instance()
    for each in UNTRAINED:
        assert store_from_source(each.name, each.module) == (each.name not in IMPORTED)
        if each.name in IMPORTED:
            continue
        scales = [name for name in store.repo["experiment"] if re.fullmatch(rf"{each.name}_\w+\.yaml", name)]
        read = {name: store.repo["experiment"][name].node for name in scales}
        register(importlib.import_module(each.module).CLAIM)
        assert read == {name: store.repo["experiment"][name].node for name in scales}
        assert {"cpu", "paper"} <= {name.removesuffix(".yaml").rpartition("_")[2] for name in scales}


OWN = '''
import dataclasses
from typing import Literal
LEAST: int = 3
Colour = Literal["red", "blue"]

@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    """A base.

    Attributes:
        size: a size, in tokens
            and no more.
    """
    size: int = LEAST

@dataclasses.dataclass(frozen=True)
class Mine(Base):
    """My class, e.g. this one. More.

    Attributes:
        colour: a colour.
    """
    colour: Colour = "red"
    grid: tuple = (1, 2.5)
    made: tuple = dataclasses.field(default_factory=tuple)

@dataclasses.dataclass
class Computed:
    """Another."""
    size: int = max(1, 2)
'''


def test_a_class_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_lab").mkdir()
    (tmp_path / "own_lab" / "__init__.py").write_text("from .parts import Mine, Computed\n")
    (tmp_path / "own_lab" / "parts.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    module_file.cache_clear()
    mine = read_signature("own_lab.Mine")
    assert mine is not None
    assert [each.name for each in mine.fields] == ["colour", "grid", "made", "size"]
    by_name = {each.name: each for each in mine.fields}
    assert (by_name["size"].default, by_name["size"].doc) == (3, "a size, in tokens and no more.")
    assert by_name["colour"].choices == ("red", "blue")
    assert not by_name["made"].plain
    assert mine.summary == "My class, e.g. this one."
    # What only running the source tells is imported.
    assert read_signature("own_lab.Computed") is None
    assert schemas.schema("own_lab.Computed") == {"_target_": "own_lab.Computed", "size": 2}
    signature = inspect.signature(importlib.import_module("own_lab").Mine)
    assert list(signature.parameters) == ["colour", "grid", "made", "size"]
    with pytest.raises(ValueError, match=r"there is no 'own_lab\.Nope'"):
        schemas.schema("own_lab.Nope")
