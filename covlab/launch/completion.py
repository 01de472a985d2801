"""Tab completion of `covlab` in bash, zsh and fish: commands, groups and their options, keys and values.

    eval "$(covlab --completion bash)"        # in ~/.bashrc; zsh alike, after compinit
    covlab --completion fish | source         # in ~/.config/fish/config.fish

The script of a shell calls `covlab --complete SHELL` at every tab, with the line up to the cursor in
COMP_LINE. Hydra's own completion (`--shell-completion`) cannot serve these commands: it takes the word after
`python` for a script, so that `-m` of `python -m experiments.train` is read as `--multirun` and the module as
an override. `shell_completion` answers its queries instead.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from covlab.launch.commands import EXIT_USER_ERROR, Command, command_of, commands
from covlab.launch.signatures import read_docs

SHELLS = ("bash", "zsh", "fish")
FLAGS = ("--cfg", "--config-dir", "--help", "--multirun")
PATH_KEYS = ("run", "value", "file", "out", "root")
"""Keys whose values are paths, as in `path_arguments`."""

_BASH = """\
_covlab() {
    local IFS=$'\\n'
    COMPREPLY=($(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        "${COMP_WORDS[0]}" --complete bash 2> /dev/null))
}
complete -o nospace -F _covlab covlab
"""
_ZSH = """\
_covlab() {
    local -a whole part
    local reply line="${(j: :)${(@)words[1,CURRENT-1]}} $PREFIX"
    for reply in "${(@f)$(COMP_LINE="$line" "${words[1]}" --complete zsh 2> /dev/null)}"; do
        [[ $reply == *' ' ]] && whole+=("${reply% }") || part+=("$reply")
    done
    (( $#whole )) && compadd -Q -- "${whole[@]}"
    (( $#part )) && compadd -Q -S '' -- "${part[@]}"
    return 0
}
compdef _covlab covlab
"""
_FISH = """\
function __covlab_complete
    set -lx COMP_LINE (commandline -cp | string collect)
    set -l program (commandline -opc)[1]
    $program --complete fish 2> /dev/null
end
complete -c covlab -f -a '(__covlab_complete)'
"""
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


Configured = Callable[[Command], str | None]
"""Returns the name of a command's configuration, stored first where it has no file; None without one."""


def with_file(command: Command) -> str | None:
    """The configuration of a command that has a file in `conf/`."""
    return command.config_name


def main(flag: str, arguments: Sequence[str], configured: Configured) -> int:
    """`covlab --completion SHELL` or `covlab --complete SHELL`; returns the exit status."""
    shell = arguments[0] if arguments else ""
    if shell not in SHELLS:
        print(f"error: {flag}: {shell!r}; valid: one of {', '.join(SHELLS)}", file=sys.stderr)
        return EXIT_USER_ERROR
    print(SCRIPTS[shell] if flag == "--completion" else answer(shell, os.environ, configured), end="")
    return 0


def shell_completion(config_name: str, arguments: Sequence[str]) -> str:
    """The answer to Hydra's `--shell-completion install=SHELL`, `uninstall=SHELL` or `query=SHELL`.

    Raises:
        SystemExit: another request.
    """
    request = next((text for text in arguments if text.startswith(("install=", "query=", "uninstall="))), "")
    what, _, shell = request.partition("=")
    if shell not in SHELLS:
        valid = f"query=SHELL and install=SHELL, SHELL one of {', '.join(SHELLS)}"
        print(f"error: --shell-completion: valid are {valid}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)
    if what == "uninstall":
        return {"fish": "complete -e -c covlab", "zsh": "compdef -d covlab"}.get(shell, "complete -r covlab")
    if what == "install":
        return SCRIPTS[shell]
    line = _line(os.environ)
    # The words of the program: python -m experiments.train, or covlab train.
    rest = re.sub(r"^\s*(\S*python[\d.]*\s+-m\s+\S+|\S*covlab\s+\S+|\S+)\s?", "", line)
    return "\n".join(each.rstrip() for each in candidates(f"covlab {config_name} {rest}"))


def answer(shell: str, environ: Mapping[str, str], configured: Configured = with_file) -> str:
    """One line for each candidate; one that ends a word ends in a space, but for fish, which adds it."""
    line = _line(environ)
    found = candidates(line, configured)
    if shell == "bash":
        # Bash replaces only what follows the last character that breaks words, as = does.
        word = re.split(r"\s", line)[-1]
        breaks = set(environ.get("COMP_WORDBREAKS", "=:")) - set(" \t\n")
        cut = max((place + 1 for place, letter in enumerate(word) if letter in breaks), default=0)
        found = [choice[cut:] for choice in found]
    if shell == "fish":
        found = [choice.rstrip() for choice in found]
    return "".join(f"{choice}\n" for choice in found)


def _line(environ: Mapping[str, str]) -> str:
    """The command line up to the cursor, which COMP_POINT counts in bytes."""
    line = environ.get("COMP_LINE", "")
    point = environ.get("COMP_POINT", "")
    return line.encode()[: int(point)].decode(errors="ignore") if point.isdecimal() else line


def candidates(line: str, configured: Configured = with_file) -> list[str]:
    """Candidates for the last word of a command line; a trailing space ends the word.

    Example:
        >>> candidates("covlab train_v")
        ['train_value ']
    """
    words = re.split(r"\s+", line.lstrip())
    word, before = words[-1], words[1:-1]
    if not words[:-1]:
        return []
    if not before:
        flags = ("--completion ", "--help ", "--version ")
        return _fitting(
            word, (*(f"{name} " for name in commands()), *(flags if word.startswith("-") else ()))
        )
    if before == ["--completion"]:
        return _fitting(word, (f"{shell} " for shell in SHELLS))
    try:
        command = command_of(before[0])
    except ValueError:
        return []
    if before[-1] in ("--cfg", "-c"):
        return _fitting(word, ("job ",))
    if before[-1] in ("--config-dir", "-cd"):
        return _files(word)
    if word.startswith("-"):
        return _fitting(word, (f"{flag} " for flag in FLAGS))
    key, equals, value = word.partition("=")
    if equals and key.lstrip("+") in PATH_KEYS:
        return [f"{key}={file}" for file in _files(value)]
    config_name = configured(command)
    found = _overrides(config_name, before[1:], word) if config_name is not None else []
    # Runs stand among the overrides of `compare`.
    return found + (_files(word) if command.name == "compare" else [])


def _overrides(config_name: str, before: Sequence[str], word: str) -> list[str]:
    """Overrides of a command's configuration that begin with `word`."""
    # Hydra is imported only here: names of commands are completed without it.
    from covlab.launch.chosen import Chosen
    from covlab.launch.schema import register_schemas

    register_schemas()
    chosen = Chosen(config_name, _composing(before))
    config = chosen.compose()
    signs, rest = re.fullmatch(r"([+~]*)(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
    key, equals, value = rest.partition("=")
    if not equals:
        groups = (f"{group}=" for group in chosen.choices)
        return [signs + each for each in _fitting(rest, sorted({*groups, *_keys(config, rest)}))]
    if key in chosen.choices:
        values: Iterable[str] = chosen.options(key.partition("@")[0])
    else:
        values = _values(config, key)
    # In a sweep the last of several values is completed.
    first = value.rpartition(",")[0]
    first += "," if "," in value else ""
    return [
        f"{signs}{key}={first}{each}" for each in _fitting(value[len(first) :], (f"{v} " for v in values))
    ]


def _composing(words: Sequence[str]) -> list[str]:
    """The overrides among the words, and the flags that choose configuration files."""
    kept: list[str] = []
    for place, word in enumerate(words):
        if word in ("--config-dir", "-cd", "--config-name", "-cn"):
            kept += words[place : place + 2]
        elif "=" in word or word.startswith("~"):
            kept.append(word)
    return kept


def _keys(config: Mapping[str, Any], word: str) -> list[str]:
    """Keys below the mapping that the last dot of `word` ends; mappings end in a dot, values in =."""
    above = word.rpartition(".")[0]
    node = _at(config, above)
    if not isinstance(node, Mapping):
        return []
    hidden = ("_target_", *(("hydra",) if not above else ()))
    return [
        f"{above}{'.' * bool(above)}{key}{'.' if isinstance(value, Mapping) and value else '='}"
        for key, value in node.items()
        if key not in hidden
    ]


def _values(config: Mapping[str, Any], key: str) -> list[str]:
    """The values that a field allows, or else its present one."""
    above, _, name = key.rpartition(".")
    node = _at(config, above)
    if not isinstance(node, Mapping) or name not in node:
        return []
    present = node[name]
    if isinstance(present, bool):
        return ["true", "false"]
    docs = read_docs(str(node.get("_target_", "")))
    choices = next((field.choices for field in docs.fields if field.name == name), ()) if docs else ()
    if choices:
        return sorted(choices)
    text = str(present)
    return (
        [] if present is None or isinstance(present, Mapping | list) or re.search(r"\s|\$", text) else [text]
    )


def _at(config: Any, path: str) -> Any:
    for part in filter(None, path.split(".")):
        config = config.get(part) if isinstance(config, Mapping) else None
    return config


def _fitting(word: str, texts: Iterable[str]) -> list[str]:
    return [text for text in texts if text.startswith(word)]


def _files(word: str) -> list[str]:
    """Paths that begin with `word`; folders end in a slash."""
    folder, _, start = word.rpartition("/")
    place = Path(os.path.expanduser(folder) if folder else "/" if word.startswith("/") else ".")
    try:
        names = sorted(entry.name + ("/" if entry.is_dir() else " ") for entry in place.iterdir())
    except OSError:
        return []
    shown = (name for name in names if start.startswith(".") or not name.startswith("."))
    prefix = f"{folder}/" if "/" in word else ""
    return [prefix + name for name in shown if name.startswith(start)]
