"""Files of evaluations, and reading them in one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from covlab.readers.base import Wanted
from covlab.readers.joining import Joined, read_sources

FILES = Path(__file__).parent / "files"


@pytest.fixture(scope="session")
def files() -> Path:
    """The folder of files that the tools wrote."""
    return FILES


@pytest.fixture
def read() -> Callable[..., Joined]:
    """`read(path, ..., tasks="a", examples="common")`."""

    def reading(*sources: Path, examples: Any = "all", form: str | None = None, **wanted: Any) -> Joined:
        return read_sources([str(source) for source in sources], Wanted(**wanted), form, examples)

    return reading


@pytest.fixture
def refused(read: Callable[..., Joined]) -> Callable[..., str]:
    """The one line with which `read` refuses."""

    def refusing(*sources: Path, **settings: Any) -> str:
        with pytest.raises(ValueError) as error:  # noqa: PT011
            read(*sources, **settings)
        assert "\n" not in str(error.value)
        return str(error.value)

    return refusing


@pytest.fixture
def lines() -> Callable[[Path], list[dict[str, Any]]]:
    """The objects of a JSON Lines file."""
    return lambda path: [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write("a.jsonl", records)`: a file of JSON lines below the test's folder."""

    def writing(name: str, records: Iterable[Any]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return writing
