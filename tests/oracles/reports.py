"""What every report must be: whole tables, notes in sentences, figures by name."""

from collections.abc import Iterable, Sequence
from typing import Any

Tables = Sequence[tuple[str, Sequence[str], Sequence[Sequence[Any]]]]


def assert_rectangular(tables: Tables) -> None:
    """Assert that every table has rows, as long as its header."""
    for title, columns, rows in tables:
        assert rows, title
        assert all(len(row) == len(columns) for row in rows), title


def assert_whole(drawings: Iterable[Any], names: Sequence[str], tables: Tables, notes: Iterable[str]) -> None:
    """Assert the figures' names, that the tables are rectangular and that every note is a sentence."""
    assert [drawing.name for drawing in drawings] == list(names)
    assert_rectangular(tables)
    assert all(text.endswith(".") for text in notes)
