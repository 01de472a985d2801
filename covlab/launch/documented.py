"""Texts that explain keys and fields: comments of YAML files, docstrings, comments at fields."""

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


def first_sentence(docstring: str | None) -> str:
    """The first sentence of the first paragraph, in one line.

    Example:
        >>> first_sentence('''Rates of maximum likelihood's coverage, e.g. on
        ... bits. Details follow.''')
        "Rates of maximum likelihood's coverage, e.g. on bits."
    """
    paragraph = " ".join((docstring or "").strip().partition("\n\n")[0].split())
    # A full stop ends a sentence before a capital letter, unless it ends an abbreviation.
    match = re.search(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bet al)[.?!](?=\s+[A-Z`\"(]|$)", paragraph)
    return paragraph[: match.end()] if match else paragraph


def documented(docstring: str | None) -> dict[str, str]:
    """Name -> text, from the sections Attributes and Args of a docstring.

    Example:
        >>> documented('''A thing.
        ...
        ...     Attributes:
        ...         a, b: two numbers,
        ...             both positive.
        ... ''')
        {'a': 'two numbers, both positive.', 'b': 'two numbers, both positive.'}
    """
    docs: dict[str, str] = {}
    names: list[str] = []
    inside, depth = False, 0
    for line in (docstring or "").splitlines():
        indent = len(line) - len(line.lstrip())
        if re.fullmatch(r"\s*(Attributes|Args):", line):
            inside, depth, names = True, indent, []
            continue
        if not inside or not line.strip():
            continue
        if indent <= depth:
            inside = False
            continue
        match = re.match(r"\s*(\w+(?:, \w+)*): (.*)", line)
        if match and indent <= depth + 4:
            names = match[1].split(", ")
            docs |= dict.fromkeys(names, match[2].strip())
        else:
            docs |= {name: f"{docs[name]} {line.strip()}" for name in names}
    return docs
