"""An extension of Griffe: docstrings are plain text with code between backticks, not Markdown with HTML.

Without it `sum_a exp<theta*, phi(x, a)>` loses what is between the brackets, which a browser takes for a tag,
and the text between two asterisks is in italics.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

SECTION = re.compile(r"(?:Args|Attributes|Raises|Returns|Yields|Examples?|Notes?):$")
CODE = re.compile(r"(``.*?``|`[^`]*`)", re.DOTALL)


def escaped(text: str) -> str:
    """`text` with `<`, `*` and `\\` outside backticks as Markdown writes them."""
    parts = CODE.split(text)
    parts[::2] = [re.sub(r"[\\*]", r"\\\g<0>", part).replace("<", "&lt;") for part in parts[::2]]
    return "".join(parts)


def plain(docstring: str) -> str:
    """The docstring with its prose escaped, and its indented blocks, which are code, as they are."""
    blocks: list[tuple[bool, list[str]]] = []
    in_section = False
    for line in docstring.split("\n"):
        indent = len(line) - len(line.lstrip())
        if line and not indent:
            in_section = bool(SECTION.match(line))
        code = line.lstrip().startswith((">>>", "...")) or indent >= (12 if in_section else 4)
        if not blocks or (line and blocks[-1][0] != code):
            blocks.append((code, []))
        blocks[-1][1].append(line)
    return "\n".join("\n".join(lines) if code else escaped("\n".join(lines)) for code, lines in blocks)


class PlainDocstrings(griffe.Extension):
    """Escapes every docstring that is loaded."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute, before docstrings are parsed."""
        if obj.docstring:
            obj.docstring.value = plain(obj.docstring.value)
