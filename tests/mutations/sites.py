"""Mutants of a source file: positions and replacement texts.

A mutant replaces one expression, or removes one statement. Left alone are annotations, decorators, imports,
docstrings, messages of errors, f-strings and `strict` of `zip`: a change there changes no number.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMES = {
    "max": "min",
    "min": "max",
    "maximum": "minimum",
    "minimum": "maximum",
    "argmax": "argmin",
    "argmin": "argmax",
    "mean": "sum",
    "sum": "mean",
    "all": "any",
    "any": "all",
    "cumsum": "cumprod",
    "log1p": "log",
    "expm1": "exp",
    "logaddexp": "maximum",
    "floor": "ceil",
    "ceil": "floor",
}
COMMUTATIVE = {"max", "min", "maximum", "minimum", "logaddexp", "multiply", "add", "clip"}
"""Functions that give the same for their first two arguments in the other order; `clip(x, low, high)` is
min(max(x, low), high)."""
BUILTINS = {"max", "min", "all", "any"}
"""The names among them that mean something without a module before them."""
OPERATORS_AS_TEXT = {">=": "<=", "<=": ">=", ">": "<", "<": ">", "low": "high", "high": "low"}
"""Targets of checks are written as text."""


@dataclass(frozen=True)
class Mutant:
    """One fault: `text` instead of the source between two offsets (in bytes) of `file`.

    `line` is the first line that changes (from 1), `before` what stood there, `function` the innermost
    function around it.
    """

    file: str
    line: int
    start: int
    end: int
    before: str
    text: str
    kind: str
    function: str

    def applied(self, source: bytes) -> bytes:
        """The source with the fault in it."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    @property
    def name(self) -> str:
        """One line that says what was changed where."""
        old, new = (" ".join(text.split()) for text in (self.before, self.text))
        return f"{self.file}:{self.line} {self.function}: {old} -> {new}"


def mutants(file: str, source: bytes, inside: Callable[[ast.AST], bool] | None = None) -> list[Mutant]:
    """All mutants of a file, in its order; with `inside`, of the functions that it accepts."""
    tree = ast.parse(source)
    offsets = [0]
    for line in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))

    def span(node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return offsets[node.lineno - 1] + node.col_offset, offsets[node.end_lineno - 1] + node.end_col_offset

    found = []
    for node, function, wanted in _walk(tree, "", inside is None, inside):
        if not wanted:
            continue
        for kind, text in _changes(node):
            assert isinstance(node, ast.expr | ast.stmt)
            start, end = span(node)
            before = source[start:end].decode()
            found.append(Mutant(file, node.lineno, start, end, before, text, kind, function))
    return sorted(found, key=lambda mutant: (mutant.start, mutant.end, mutant.text))


def statement_lines(source: bytes, mutant: Mutant) -> range:
    """The lines (from 1) of the innermost statement around a mutant, without the statements inside it.

    A line that holds only a constant, as in a tuple over several lines, is no line that coverage sees.
    """
    ends = mutant.line + mutant.before.count("\n")
    inside = range(mutant.line, ends + 1)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or node.lineno
            # Statements inside others come later.
            if node.lineno <= mutant.line and ends <= last:
                inside = range(node.lineno, last + 1)
    return inside


def _walk(
    node: ast.AST, function: str, wanted: bool, inside: Callable[[ast.AST], bool] | None
) -> Iterator[tuple[ast.AST, str, bool]]:
    """Every node that may be changed, with the function around it and whether that one is wanted."""
    if isinstance(node, ast.FunctionDef):
        function = f"{function}.{node.name}" if function else node.name
        wanted = wanted or (inside is not None and inside(node))
        children: list[ast.AST] = [*node.args.defaults, *(d for d in node.args.kw_defaults if d), *node.body]
    elif isinstance(node, ast.ClassDef):
        function, children = node.name, list(node.body)
    elif isinstance(node, ast.AnnAssign):
        children = [node.value] if node.value is not None else []
    elif _says_nothing(node):
        children = []
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "zip":
        # `strict` makes an error of a mistake, and has no effect without one.
        children = [node.func, *node.args]
        if function:
            yield node, function, wanted
    else:
        children = list(ast.iter_child_nodes(node))
        if function:
            yield node, function, wanted
    for child in children:
        yield from _walk(child, function, wanted, inside)


def _says_nothing(node: ast.AST) -> bool:
    """True if nothing in this node can change a number."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Raise | ast.JoinedStr):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def _changes(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Kinds of change of a node, and the text that takes its place."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield "comparison", _with(node, ops=[COMPARISONS[type(node.ops[0])]()])
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield "arithmetic", _with(node, op=ARITHMETIC[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield "logic", _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield "negation", f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, bool):
            yield "constant", str(not node.value)
        elif isinstance(node.value, int):
            yield "constant", str(node.value + 1)
        elif isinstance(node.value, float):
            yield "constant", repr(node.value * 1.5 if node.value else 0.5)
        elif isinstance(node.value, str) and node.value in OPERATORS_AS_TEXT:
            yield "target", repr(OPERATORS_AS_TEXT[node.value])
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.IfExp):
        yield "branch", f"({ast.unparse(node.orelse)})"
    elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
        yield "removed", "pass"


def _calls(node: ast.Call) -> Iterator[tuple[str, str]]:
    """Arguments in another order, and another function."""
    args = node.args
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    # `x.clip(low, high)` has two arguments.
    commutes = name in COMMUTATIVE and (name != "clip" or len(args) >= 3)
    if len(args) >= 2 and not commutes and not any(isinstance(arg, ast.Starred) for arg in args[:2]):
        first, second = (ast.unparse(arg) for arg in args[:2])
        if first != second and not all(isinstance(arg, ast.Constant) for arg in args[:2]):
            yield "arguments", _with(node, args=[args[1], args[0], *args[2:]])
    if name in NAMES and (isinstance(node.func, ast.Attribute) or name in BUILTINS):
        func = copy.deepcopy(node.func)
        setattr(func, "attr" if isinstance(func, ast.Attribute) else "id", NAMES[name])
        yield "function", _with(node, func=func)


def _with(node: ast.expr, **fields: object) -> str:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return f"({ast.unparse(changed)})"
