"""Fields of a class or function read from its source, without importing it: defaults, choices, docstring.

Composing a configuration and explaining it need signatures only, while importing their modules loads JAX.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from covlab.launch.documented import documented, field_comments, first_sentence

_BARE = {"ABC", "Protocol", "Generic", "object", "NamedTuple"}
"""Bases without fields."""


@dataclasses.dataclass(frozen=True)
class Field:
    """A parameter of a class or function.

    Attributes:
        name: the parameter's name.
        plain: True if it has a default that a configuration can hold; `default` is that value.
        choices: the texts of a `Literal` in the annotation.
        doc: the text in the docstring's section Attributes or Args, else the comment at the field, else "".
        known: False if the default cannot be told from the source.
        stated: True if there is a default.
        free: True for a mapping with any keys, empty by default: a field with `metadata={"free": True}`.
    """

    name: str
    plain: bool = False
    default: Any = None
    choices: tuple[str, ...] = ()
    doc: str = ""
    known: bool = True
    stated: bool = True
    free: bool = False


@dataclasses.dataclass(frozen=True)
class Signature:
    """The docstring's first sentence and the fields in the order of `inspect.signature`."""

    summary: str
    fields: tuple[Field, ...]


def is_plain(value: Any) -> bool:
    """True for what a configuration can hold: null, a text, a number, a flag, or a tuple of these."""
    if isinstance(value, tuple):
        return all(isinstance(item, str | int | float | bool) for item in value)
    return value is None or isinstance(value, str | int | float | bool)


def read_signature(name: str) -> Signature | None:
    """The signature of the class or function `<module>.<Name>`; None if it cannot be told from the source.

    Known are functions, and dataclasses whose bases are dataclasses, in modules that are files.
    """
    found = read_docs(name)
    return found if found is not None and all(field.known for field in found.fields) else None


@functools.cache
def read_docs(name: str) -> Signature | None:
    """`read_signature`, also where some defaults are not known."""
    module, _, attribute = name.rpartition(".")
    found = _find(module, attribute)
    if found is None:
        return None
    source, node = found
    try:
        if isinstance(node, ast.ClassDef):
            fields = _class_fields(source, node)
        else:
            fields = [*_arguments(source, node)]
    except _Unknown:
        return None
    return Signature(first_sentence(ast.get_docstring(node)), tuple(fields))


def read_value(name: str) -> Any:
    """The value of the constant `<module>.<NAME>`, a literal; None if it cannot be told from the source."""
    module, _, attribute = name.rpartition(".")
    found = _find(module, attribute)
    if found is None or not isinstance(found[1], ast.expr):
        return None
    try:
        return _value(*found)
    except _Unknown:
        return None


class _Unknown(Exception):
    """Source that this reader does not understand."""


@dataclasses.dataclass(frozen=True)
class _Source:
    """A parsed module."""

    module: str
    text: str
    is_package: bool

    @functools.cached_property
    def tree(self) -> ast.Module:
        """The module's syntax tree."""
        return ast.parse(self.text)

    @functools.cached_property
    def imported(self) -> dict[str, tuple[str, str]]:
        """Name -> (module, name there), of every `from module import name`, also under a condition."""
        names: dict[str, tuple[str, str]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom):
                module = self._absolute(node)
                names |= {name.asname or name.name: (module, name.name) for name in node.names}
        return names

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.module.split(".")
        parts = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*parts, *filter(None, [node.module])])

    def __hash__(self) -> int:
        return hash(self.module)


@functools.cache
def module_file(module: str) -> Path | None:
    """The file of a module, found without importing it or its packages; None if there is none."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or ():
        place = Path(folder, *rest)
        for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if file.is_file():
                return file
    return None


@functools.cache
def _source(module: str) -> _Source | None:
    file = module_file(module)
    if file is None:
        return None
    try:
        source = _Source(module, file.read_text(encoding="utf-8"), file.name == "__init__.py")
        source.tree  # noqa: B018
    except (OSError, SyntaxError, ValueError):
        return None
    return source


_Definition = ast.ClassDef | ast.FunctionDef


def _find(module: str, name: str, seen: frozenset[tuple[str, str]] = frozenset()) -> Any:
    """(source, node) of a class, a function or a constant's value; None if it is not found."""
    source = _source(module)
    if source is None or (module, name) in seen:
        return None
    for node in source.tree.body:
        if isinstance(node, _Definition) and node.name == name:
            return source, node
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return source, getattr(node, "value", None)
    if name in source.imported:
        return _find(*source.imported[name], seen | {(module, name)})
    return None


def _class_fields(source: _Source, node: ast.ClassDef) -> list[Field]:
    if _dataclass(node) is None:
        raise _Unknown
    fields: dict[str, tuple[Field, bool]] = {}
    for part, definition in _lineage(source, node):
        docs = documented(ast.get_docstring(definition))
        fields = {name: (_documented_by(field, docs), last) for name, (field, last) in fields.items()}
        for field in _own_fields(part, definition, docs):
            before = fields.get(field.name)
            doc = field.doc or (before[0].doc if before else "")
            fields[field.name] = (dataclasses.replace(field, doc=doc), _keyword_only(definition))
    return [field for field, _ in sorted(fields.values(), key=lambda pair: pair[1])]


def _documented_by(field: Field, docs: dict[str, str]) -> Field:
    """An inherited field with the subclass's text, if it has one."""
    return dataclasses.replace(field, doc=docs.get(field.name) or field.doc)


def _lineage(source: _Source, node: ast.ClassDef) -> list[tuple[_Source, ast.ClassDef]]:
    """The dataclasses among the class's bases, the furthest first, and the class."""
    lineages = []
    for base in node.bases:
        name = base.value if isinstance(base, ast.Subscript) else base
        word = name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "")
        if word in _BARE:
            continue
        found = _find(source.module, word)
        if found is None or not isinstance(found[1], ast.ClassDef):
            raise _Unknown
        lineages.append(_lineage(*found))
    lineages = list(filter(None, lineages))
    own_init = any(isinstance(item, ast.FunctionDef) and item.name == "__init__" for item in node.body)
    # With several bases that have fields, their order would follow the method resolution order.
    if own_init or len(lineages) > 1:
        raise _Unknown
    return [*(lineages[0] if lineages else ()), *([(source, node)] if _dataclass(node) else [])]


def _dataclass(node: ast.ClassDef) -> ast.expr | None:
    """The decorator that makes a class a dataclass."""
    for decorator in node.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        if getattr(call, "attr", getattr(call, "id", "")) == "dataclass":
            return decorator
    return None


def _keyword_only(node: ast.ClassDef) -> bool:
    decorator = _dataclass(node)
    given = decorator.keywords if isinstance(decorator, ast.Call) else []
    return any(
        item.arg == "kw_only" and isinstance(item.value, ast.Constant) and bool(item.value.value)
        for item in given
    )


def _own_fields(source: _Source, node: ast.ClassDef, docs: dict[str, str]) -> Iterator[Field]:
    for item in node.body:
        if not isinstance(item, ast.AnnAssign) or not isinstance(item.target, ast.Name):
            continue
        annotation = ast.unparse(item.annotation)
        if "ClassVar" in annotation:
            continue
        if "InitVar" in annotation or annotation.endswith("KW_ONLY"):
            raise _Unknown
        name, value, free = item.target.id, item.value, False
        if (
            isinstance(value, ast.Call)
            and getattr(value.func, "attr", getattr(value.func, "id", "")) == "field"
        ):
            given = {keyword.arg: keyword.value for keyword in value.keywords}
            if set(given) - {"default", "default_factory", "repr", "compare", "hash", "metadata"}:
                raise _Unknown
            value = given.get("default")
            free = any(ast.unparse(key) == "'free'" for key in getattr(given.get("metadata"), "keys", ()))
        field = dataclasses.replace(_field(source, name, value, item.annotation, docs), free=free)
        if not field.doc:
            lines = source.text.splitlines()
            said = field_comments(lines, item.lineno, item.end_lineno or item.lineno)
            field = dataclasses.replace(field, doc=said)
        yield field


def _arguments(source: _Source, node: ast.FunctionDef) -> Iterator[Field]:
    docs = _argument_docs(source, node)
    arguments = node.args
    if arguments.vararg or arguments.kwarg:
        raise _Unknown
    positional = [*arguments.posonlyargs, *arguments.args]
    none: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults = [*none, *arguments.defaults, *arguments.kw_defaults]
    for argument, default in zip([*positional, *arguments.kwonlyargs], defaults, strict=True):
        yield _field(source, argument.arg, default, argument.annotation, docs)


def _argument_docs(source: _Source, node: ast.FunctionDef) -> dict[str, str]:
    """Name -> text, also of arguments that are described "as in" another function of the module."""
    text = ast.get_docstring(node)
    docs = documented(text)
    others: dict[str, dict[str, str]] = {}
    for name in re.findall(r"as in `(\w+)`", text or ""):
        found = _find(source.module, name)
        if name != node.name and found is not None and isinstance(found[1], ast.FunctionDef):
            others[name] = _argument_docs(*found)
    for name, doc in docs.items():
        if (match := re.match(r"as in `(\w+)`", doc)) and match[1] in others:
            docs[name] = others[match[1]].get(name, doc)
    rest = re.search(r"[Oo]ther arguments as in `(\w+)`", text or "")
    return {**(others.get(rest[1], {}) if rest else {}), **docs}


def _field(
    source: _Source, name: str, default: ast.expr | None, annotation: ast.expr | None, docs: dict[str, str]
) -> Field:
    choices = _choices(source, annotation) if annotation is not None else ()
    doc = docs.get(name, "")
    if default is None:
        return Field(name, choices=choices, doc=doc, stated=False)
    try:
        value = _value(source, default)
    except _Unknown:
        return Field(name, choices=choices, doc=doc, known=False)
    return Field(name, is_plain(value), value, choices, doc)


def _value(source: _Source, node: ast.expr, depth: int = 0) -> Any:
    """The value of a literal, or of a name that is one."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        pass
    if isinstance(node, ast.Name) and depth < 8:
        found = _find(source.module, node.id)
        if found is not None and isinstance(found[1], ast.expr):
            return _value(found[0], found[1], depth + 1)
    raise _Unknown


def _choices(source: _Source, annotation: ast.expr, depth: int = 0) -> tuple[str, ...]:
    """The texts of every `Literal` in an annotation, also behind a name."""
    texts: list[str] = []
    for node in ast.walk(annotation):
        if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal":
            items = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            texts += [str(item.value) for item in items if isinstance(item, ast.Constant)]
        elif isinstance(node, ast.Name) and depth < 3 and node.id[:1].isupper():
            found = _find(source.module, node.id)
            if found is not None and isinstance(found[1], ast.Subscript):
                texts += _choices(found[0], found[1], depth + 1)
    return tuple(dict.fromkeys(texts))


def _with_doc(field: Field, docs: dict[str, str]) -> Field:
    """An inherited field with the subclass's text, if it has one."""
    return dataclasses.replace(field, doc=docs.get(field.name) or field.doc)


def _inherited_doc(field: Field, before: dict[str, tuple[Field, bool]]) -> Field:
    """A field that a subclass states again, with the base's text if the subclass has none."""
    if field.doc or field.name not in before:
        return field
    return dataclasses.replace(field, doc=before[field.name][0].doc)
