"""The page of `covlab <command> --help`: every setting of the options that were chosen, a line each.

What a setting means is said once: at its key in `conf/`, or in the docstring of the class or function that
takes it.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from covlab.launch.chosen import INTERNAL, Chosen
from covlab.launch.documented import first_sentence, yaml_comments
from covlab.launch.schema import signature
from covlab.launch.signatures import module_file, read_docs

FLAGS = (
    ("--multirun, -m", "a sweep: every combination of the values that commas separate, as in seed=0,1"),
    ("--cfg job", "print the configuration, run nothing"),
    ("--config-dir DIR", "a further folder of configuration files"),
    ("--help, -h", "this page; with overrides the settings that they choose, as in task=dyck --help"),
)
_WIDEST = 34
"""Most columns of `key=value` before its explanation."""


class Setting(NamedTuple):
    """A key that can be overridden, its value in text, and its explanation."""

    key: str
    value: str
    doc: str


class Section(NamedTuple):
    """Settings under a title."""

    title: str
    settings: list[Setting]


def page(name: str, config_name: str, module: str, arguments: Sequence[str]) -> str:
    """The page of a command.

    Args:
        name: the word after `covlab`.
        config_name: the command's configuration.
        module: the command's module, whose docstring says what it does.
        arguments: the command line without the program; its overrides choose the options that are shown.
    """
    chosen = Chosen(config_name, [text for text in arguments if text not in ("--help", "-h")])
    config = chosen.compose()
    choices = chosen.choices
    files = chosen.files()
    docs = explanations(config, files, module)
    summary = _module_summary(module)
    lines = [f"covlab {name} [key=value ...]", "", *textwrap.wrap(summary, _columns()), "", "Examples:"]
    lines += [f"  {example}" for example in examples(name, config, files, module)]
    options = {group: chosen.options(_group(group)) for group in _in_order(choices, config)}
    # A claim's experiment follows from its scale.
    rows = [
        (f"{group}={choices[group]}", ", ".join(names))
        for group, names in options.items()
        if len(names) > 1 and not (group == "experiment" and "scale" in choices)
    ]
    if rows:
        lines += ["", "Choices (group=option):", *_rows(rows)]
    for section in sections(config, choices, docs, own_keys(module)):
        lines += ["", f"{section.title}:"]
        lines += _rows((f"{setting.key}={setting.value}", setting.doc) for setting in section.settings)
    return "\n".join([*lines, "", "Flags:", *_rows(FLAGS)])


def _in_order(choices: Mapping[str, str], config: Mapping[str, Any]) -> list[str]:
    """The groups in the order of their keys in the configuration, those without a key last."""
    keys = list(config)

    def position(group: str) -> int:
        key = _place(group).partition(".")[0]
        return keys.index(key) if key in keys else len(keys)

    return sorted(choices, key=position)


def own_keys(module: str) -> frozenset[str]:
    """The settings that a claim has beside those of its runs."""
    settings = read_docs(f"{module}.measure.Settings")
    return frozenset({"scale", *(field.name for field in settings.fields)} if settings is not None else ())


def sections(
    config: Mapping[str, Any], choices: Mapping[str, str], docs: Mapping[str, str], own: frozenset[str]
) -> list[Section]:
    """The settings of the claim alone, of the command, then of every mapping that makes an object."""
    alone: list[Setting] = []
    common: list[Setting] = []
    others: list[Section] = []
    for key, value in config.items():
        if key in INTERNAL or any(_place(group) == key for group in choices if choices[group] == "null"):
            continue
        if isinstance(value, Mapping) and "_target_" in value:
            option = next((f"={choice}" for group, choice in choices.items() if _place(group) == key), "")
            summary = signature(str(value["_target_"])).summary.rstrip(":.")
            others.append(Section(f"{key}{option}: {summary}", _leaves(key, value, docs)))
        else:
            (alone if key in own and "phases" in config else common).extend(_leaves(key, value, docs))
    settings = [Section("Settings of the claim (key=value)", alone)] if alone else []
    title = "Settings of its runs" if alone else "Settings (key=value)"
    return [*settings, Section(title, [_resolved(each, config) for each in common]), *others]


def _leaves(key: str, value: Any, docs: Mapping[str, str]) -> list[Setting]:
    """A setting for each value below a key; a mapping with keys that nothing explains is one setting."""
    if isinstance(value, Mapping) and value:
        below = [
            each
            for name, part in value.items()
            if name != "_target_"
            for each in _leaves(f"{key}.{name}", part, docs)
        ]
        if below and ("_target_" in value or all(each.doc for each in below)):
            return below
    return [Setting(key, _text(value), docs.get(key, ""))]


def _resolved(setting: Setting, config: Mapping[str, Any]) -> Setting:
    """A setting that refers to another one with the value of that one."""
    match = re.fullmatch(r"\$\{(\w+)\}", setting.value)
    return setting._replace(value=_text(config[match[1]])) if match and match[1] in config else setting


def explanations(
    config: Mapping[str, Any], files: Iterable[tuple[str, str, str]], module: str
) -> dict[str, str]:
    """Dotted key -> explanation: a command's own files before docstrings before an experiment's files."""
    weak: dict[str, str] = {}
    strong: dict[str, str] = {}
    for name, package, text in files:
        group = name.rpartition("/")[0]
        into = strong if group in ("", "common") else weak
        prefix = f"{package}." if package else ""
        into |= {prefix + key: _sentence(doc) for key, doc in yaml_comments(text).items()}
    own = read_docs(f"{module}.measure.Settings")
    fields = (
        {field.name: _sentence(field.doc) for field in own.fields if field.doc} if own is not None else {}
    )
    scale = {"scale": "sizes: cpu, or paper for accelerators", "group": "runs/<group>/<name>"}
    return {**scale, **weak, **fields, **_from_signatures(config, ""), **strong}


def _from_signatures(node: Mapping[str, Any], path: str) -> dict[str, str]:
    """Explanations of all fields of the objects in a configuration."""
    docs: dict[str, str] = {}
    target = node.get("_target_")
    if isinstance(target, str):
        docs |= {path + field.name: _sentence(field.doc) for field in signature(target).fields if field.doc}
    for key, value in node.items():
        if isinstance(value, Mapping) and (path or key not in INTERNAL):
            docs |= _from_signatures(value, f"{path}{key}.")
    return docs


def examples(
    name: str, config: Mapping[str, Any], files: Iterable[tuple[str, str, str]], module: str
) -> list[str]:
    """Three command lines: those that the docstring and the command's own file show, then general ones."""
    docstring = _module_docstring(module)
    texts = ["\n".join(line for line in docstring.splitlines() if line.lstrip().startswith("python"))]
    texts += [text.partition("\ndefaults:")[0] for file, _, text in files if file == name]
    found: list[str] = []
    for text in [*texts, docstring]:
        for line in re.findall(rf"python -m {re.escape(module)}\b([^#\n`]*)", text):
            line = re.sub(r"\s\(.*$|[.;,:]+\s*$", "", line.replace("cpu|paper", "cpu")).strip()
            if line and "<" not in line and not any(choice.startswith(line) for choice in found):
                found.append(line)
    found += ["scale=paper"] if "scale" in config else []
    found += ["seeds=8 name=eight"] if "seeds" in config else ["seed=1 name=second"]
    found += ["--cfg job"]
    return [f"covlab {name} {each}" for each in dict.fromkeys(found)][:3]


def docstring_page(name: str, module: str) -> str:
    """The page of a command without a configuration: its module's docstring."""
    return _module_docstring(module).replace(f"python -m {module}", f"covlab {name}").strip()


def _module_docstring(module: str) -> str:
    file = module_file(module)
    return "" if file is None else ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def _module_summary(module: str) -> str:
    paragraphs = re.split(r"\n\s*\n", _module_docstring(module))
    first = re.sub(r":?\s*python -m .*$", "", " ".join(paragraphs[0].split()))
    more = next((paragraph for paragraph in paragraphs[1:] if not re.match(r"\s|python -m", paragraph)), "")
    return " ".join([first.rstrip(".") + ".", *more.split()]).replace("?.", "?")


def _group(choice: str) -> str:
    """The group of a choice such as task@graph.task."""
    return choice.partition("@")[0]


def _place(choice: str) -> str:
    """The key at which a choice's configuration lies."""
    return choice.partition("@")[2] or choice.replace("/", ".")


def _sentence(text: str) -> str:
    return first_sentence(text).removesuffix(".")


def _text(value: Any) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return json.dumps(value)


def _columns() -> int:
    return max(shutil.get_terminal_size((110, 24)).columns, 60)


def _rows(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Two columns; what is longer than the first one is cut, and the second one is wrapped."""
    table = [(_cut(left, _columns() - 4), right) for left, right in rows]
    width = min(max((len(left) for left, _ in table), default=0), _WIDEST)
    lines = []
    for left, right in table:
        text = textwrap.wrap(right, max(_columns() - width - 4, 30)) or [""]
        head = f"  {left:{width}s}"
        if len(left) > width:
            lines.append(head)
            head = " " * (width + 2)
        lines.append(f"{head}  {text[0]}".rstrip())
        lines += [" " * (width + 4) + each for each in text[1:]]
    return lines


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 4] + " ..."
