"""Comments that explain the keys of a YAML file, or the fields of a dataclass that has no section for them."""

from __future__ import annotations

import re

_KEY = re.compile(r"( *)([\w.@/-]+):(?:\s|$)(.*)")
_COMMENT = re.compile(r"(?:^|\s)#\s?(.*)$")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")


def yaml_comments(text: str) -> dict[str, str]:
    """Dotted key -> the comment at the end of its line, else the lines of comment directly above it.

    The lines at the top of a file are about the file, and explain no key.

    Example:
        >>> yaml_comments('''# A file.
        ... a: 1 # one
        ... b:
        ...   # two
        ...   c: 2
        ... ''')
        {'a': 'one', 'b.c': 'two'}
    """
    docs: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    above: list[str] = []
    begun = False
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            above.append(line.strip().lstrip("#").strip())
            continue
        match = _KEY.match(line)
        if match is None:
            above, begun = [], begun or bool(line.strip())
            continue
        indent, key, rest = len(match[1]), match[2], match[3]
        path = [*((depth, name) for depth, name in path if depth < indent), (indent, key)]
        comment = _COMMENT.search(_QUOTED.sub(lambda quoted: "_" * len(quoted[0]), rest))
        said = rest[comment.start(1) :] if comment else " ".join(above) if begun or key != "defaults" else ""
        if said and (comment or begun):
            docs[".".join(name for _, name in path)] = said.strip()
        above, begun = [], True
    return docs


def field_comments(lines: list[str], first: int, last: int) -> str:
    """The comment of the field on lines `first` to `last` (from 1): at its end, else directly above it.

    Example:
        >>> field_comments(["# Instances.", "draws: int = 96", "seed: int = 5  # the first"], 2, 2)
        'Instances.'
    """
    own = _COMMENT.search(_QUOTED.sub(lambda quoted: "_" * len(quoted[0]), lines[last - 1]))
    if own is not None:
        return lines[last - 1][own.start(1) :].strip()
    above: list[str] = []
    number = first - 2
    while number >= 0 and lines[number].lstrip().startswith("#"):
        above.insert(0, lines[number].strip().lstrip("#").strip())
        number -= 1
    return " ".join(above)
