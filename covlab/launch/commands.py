"""The commands and claims of the lab, found in the package `experiments` without importing them.

Nothing here imports Hydra or JAX, so that `covlab --help` and completion answer at once.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from covlab.launch import outside
from covlab.launch.documented import first_sentence
from covlab.launch.signatures import module_file

PACKAGE = "experiments"
EXIT_USER_ERROR = 2
"""Exit status of a command after one line on standard error."""


@dataclasses.dataclass(frozen=True)
class Command:
    """A module that `python -m` runs.

    Attributes:
        name: the word after `covlab`.
        module: the module's dotted name.
        summary: the first sentence of the module's docstring.
        is_claim: True for a package that states a `CLAIM`.
    """

    name: str
    module: str
    summary: str
    is_claim: bool

    @property
    def config_name(self) -> str | None:
        """The command's file in `conf/` or in the folder of an installed package, without its ending; None if
        it has none."""
        conf = module_file("conf")
        folders = [*([] if conf is None else [conf.parent]), *outside.config_folders().values()]
        return self.name if any((folder / f"{self.name}.yaml").is_file() for folder in folders) else None


def commands() -> dict[str, Command]:
    """Every command and claim by name: the modules and packages of `experiments`, and the claims of
    installed packages.

    Raises:
        ValueError: an entry point of another form, see `outside.claim_modules`.
    """
    package = module_file(PACKAGE)
    if package is None:
        return {}
    known: dict[str, Command] = {}
    for entry in sorted(package.parent.iterdir()):
        name = entry.name.removesuffix(".py")
        file = entry / "__init__.py" if entry.is_dir() else entry
        if name.isidentifier() and not name.startswith("_") and file.suffix == ".py" and file.is_file():
            known[name] = describe(name, f"{PACKAGE}.{name}", file)
    for name, module in outside.claim_modules().items():
        source = module_file(module)
        if source is not None and name not in known:
            known[name] = describe(name, module, source)
    return known


def command_of(word: str) -> Command:
    """The command that `word` names, or the module if it is a dotted name.

    Raises:
        ValueError: there is none; the message has the nearest names.
    """
    known = commands()
    if word in known:
        return known[word]
    for command in known.values():
        if command.module == word:
            return command
    if re.fullmatch(r"\w+(\.\w+)+", word):
        file = module_file(word)
        if file is None:
            raise ValueError(f"{word}: no such module in the current folder and the installed packages")
        return describe(word.rpartition(".")[2], word, file)
    if "=" in word or word.startswith("-"):
        raise ValueError(f"{word}: a command comes first, as in covlab train {word}")
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(f"{word}: no such command; {hint}covlab --help lists the commands")


def describe(name: str, module: str, file: Path) -> Command:
    """The command of a module, from its source."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    summary = re.sub(r":?\s*(?:`|\()?python -m .*$", "", first_sentence(ast.get_docstring(tree)))
    claims = (
        isinstance(node, ast.Assign | ast.AnnAssign)
        and any(getattr(target, "id", "") == "CLAIM" for target in _targets(node))
        for node in tree.body
    )
    return Command(name, module, summary.rstrip(":.") + ("" if summary.endswith("?") else "."), any(claims))


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def overview(known: Mapping[str, Command]) -> str:
    """The page of `covlab --help`."""
    width = max(map(len, known), default=0)
    lines = [
        "covlab: a laboratory for the coverage principle.",
        "",
        "  covlab COMMAND [key=value ...]   for example: covlab train task=dyck steps=500",
        "  covlab COMMAND --help            the settings of a command, a line each",
        "  covlab --completion SHELL        a script for tab completion: bash, zsh or fish",
        "  covlab --version",
    ]
    for title, claims in (
        ("Commands", False),
        ("Claims, each with a verdict (covlab CLAIM scale=cpu)", True),
    ):
        lines += ["", f"{title}:"]
        rows = [each for each in known.values() if each.is_claim == claims]
        lines += [f"  {row.name:{width}s}  {row.summary}" for row in rows]
    return "\n".join(lines)


def say(text: str) -> None:
    """Print a page; a reader such as `head` may stop reading."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # What Python flushes at its end goes nowhere, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
