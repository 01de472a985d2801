"""The text of an optimised HLO program as computations of instructions, and the trip counts of the loops.

    text of `jax.stages.Compiled.as_text` -> parse -> Module -> trip_count

A program's loops stand in the text once. `Values` follows the integers through the text, and `trip_count`
takes the number of iterations from the loop's condition, its start and its step.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

_HEAD = re.compile(r"(ENTRY )?%?([\w.\-~]+) (?:\(.*\) -> .*)?\{$")
_NAME = re.compile(r"(ROOT )?%?([\w.\-~]+) = ")
_OPCODE = re.compile(r"\s*([\w\-]+)\(")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<= ]*)\](\{[^}]*\})?")
_MEMORY_SPACE = re.compile(r"S\((\d+)\)")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|called_computations|branch_computations|true_computation"
    r"|false_computation)=(\{[^}]*\}|%?[\w.\-~]+)"
)
_BITS = {"pred": 8, "token": 0, "opaque": 0}


class HloError(ValueError):
    """A text that is not an HLO module."""


class ArrayShape(NamedTuple):
    """Shape of an array in a text.

    Attributes:
        dtype: element type, such as "bf16".
        dims: axes.
        space: memory space of the layout: 0 for the device's main memory, 1 and above for memory on the chip.
    """

    dtype: str
    dims: tuple[int, ...]
    space: int

    @property
    def bytes(self) -> float:
        """Size in bytes, without the padding of tiles."""
        return math.prod(self.dims) * bits_of(self.dtype) / 8


def bits_of(dtype: str) -> int:
    """Bits of an element: the number in the type's name, with those of a `pred` stored as bytes.

    >>> bits_of("bf16"), bits_of("f8e4m3fn"), bits_of("pred")
    (16, 8, 8)
    """
    if dtype in _BITS:
        return _BITS[dtype]
    found = re.match(r"[a-z]+(\d+)", dtype)
    return int(found[1]) if found else 0


def arrays(shape: str) -> list[ArrayShape]:
    """The arrays of a shape, those of a tuple in order.

    >>> arrays("(f32[2,3]{1,0:T(8,128)S(1)}, s32[])")
    [ArrayShape(dtype='f32', dims=(2, 3), space=1), ArrayShape(dtype='s32', dims=(), space=0)]
    """
    found = []
    for dtype, dims, layout in _ARRAY.findall(shape):
        space = _MEMORY_SPACE.search(layout)
        sizes = tuple(int(size.strip(" <=")) for size in dims.split(",") if size.strip())
        found.append(ArrayShape(dtype, sizes, int(space[1]) if space else 0))
    return found


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name, opcode: as in the text.
        shape: the text of the result's shape.
        operands: names of the operands; for a constant, its literal; for a parameter, its number.
        attributes: the text after the operands.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    attributes: str

    @property
    def called(self) -> tuple[str, ...]:
        """Names of the computations that the instruction calls."""
        names: list[str] = []
        for group in _CALLED.findall(self.attributes):
            names += [name.strip(" %{}") for name in group.split(",")]
        return tuple(name for name in names if name)

    def attribute(self, key: str) -> str:
        """The name or number behind `key=`; "" if there is none."""
        found = re.search(rf"(?:^|[ ,]){key}=%?([\w.\-~]+)", self.attributes)
        return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, in the text's order, and the name of the root."""

    name: str
    instructions: Mapping[str, Instruction]
    root: str

    def __iter__(self) -> Iterator[Instruction]:
        return iter(self.instructions.values())


@dataclasses.dataclass(frozen=True)
class Module:
    """Computations by name, and the name of the entry."""

    computations: Mapping[str, Computation]
    entry: str

    def opcodes(self, name: str) -> set[str]:
        """The opcodes of a computation and of all that it calls."""
        found: set[str] = set()
        for instruction in self.computations[name]:
            found.add(instruction.opcode)
            for called in instruction.called:
                found |= self.opcodes(called)
        return found


def parse(text: str) -> Module:
    """The computations of an HLO text.

    Raises:
        HloError: a text without an entry computation, or a line of a computation that is not an instruction.
    """
    computations: dict[str, Computation] = {}
    entry, name, root = "", "", ""
    instructions: dict[str, Instruction] = {}
    for line in text.splitlines():
        stripped = line.strip()
        if not name:
            head = _HEAD.match(stripped)
            if head and not stripped.startswith("HloModule"):
                name, root, instructions = head[2], "", {}
                entry = name if head[1] else entry
        elif stripped.startswith("}"):
            computations[name] = Computation(name, instructions, root or next(reversed(instructions), ""))
            name = ""
        elif stripped:
            found = _instruction(stripped)
            instructions[found.name] = found
            root = found.name if stripped.startswith("ROOT ") else root
    if entry not in computations:
        raise HloError("HLO text: no ENTRY computation")
    return Module(computations, entry)


def _instruction(line: str) -> Instruction:
    named = _NAME.match(line)
    if not named:
        raise HloError(f"HLO text: {line[:80]!r} is not an instruction")
    rest = line[named.end() :]
    end = _closing(rest) + 1 if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:]
    opcode = _OPCODE.match(rest)
    if not opcode:
        raise HloError(f"HLO text: {line[:80]!r} is not an instruction")
    rest = rest[opcode.end() - 1 :]
    end = _closing(rest)
    inside = rest[1:end]
    if opcode[1] in ("constant", "parameter"):
        operands: tuple[str, ...] = (inside,)
    else:
        # A text may state the shape of an operand before its name.
        operands = tuple(part.split()[-1].lstrip("%") for part in _parts(inside) if part.strip())
    return Instruction(named[2], opcode[1], shape, operands, rest[end + 1 :].lstrip(", "))


def _closing(text: str) -> int:
    """Index of the bracket that closes the one at index 0."""
    depth = 0
    for index, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                return index
    raise HloError(f"HLO text: {text[:80]!r} has no closing bracket")


def _parts(text: str) -> Iterator[str]:
    """`text` split at the commas outside all brackets, without comments."""
    depth, start = 0, 0
    text = re.sub(r"/\*.*?\*/", "", text)
    for index, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            yield text[start:index]
            start = index + 1
    yield text[start:]


class Affine(NamedTuple):
    """An integer: `offset`, plus element `variable` of the tuple that a loop carries unless that is None."""

    variable: int | None
    offset: int


Value: TypeAlias = "Affine | tuple[Value, ...] | None"
"""What is known of an instruction's result: an integer, the elements of a tuple, or nothing."""

_SAME = ("copy", "bitcast", "convert", "opt-barrier", "reshape", "broadcast")


class Values:
    """Integers of a module, as far as they follow from constants."""

    def __init__(self, module: Module) -> None:
        self.module = module

    def of(self, computation: str, name: str, arguments: tuple[Value, ...]) -> Value:
        """The value of an instruction, from the values of the computation's parameters."""
        own = self.module.computations[computation]
        return self._of(own, own.instructions[name], arguments, {})

    def _of(
        self, own: Computation, it: Instruction, arguments: tuple[Value, ...], known: dict[str, Value]
    ) -> Value:
        if it.name not in known:
            # Looked up before the operands are, so that a text that refers in a circle ends.
            known[it.name] = None
            known[it.name] = self._computed(own, it, arguments, known)
        return known[it.name]

    def _computed(
        self, own: Computation, it: Instruction, arguments: tuple[Value, ...], known: dict[str, Value]
    ) -> Value:
        if it.opcode == "constant":
            return Affine(None, int(it.operands[0])) if re.fullmatch(r"-?\d+", it.operands[0]) else None
        if it.opcode == "parameter":
            number = int(it.operands[0])
            return arguments[number] if number < len(arguments) else None

        def operand(index: int) -> Value:
            return self._of(own, own.instructions[it.operands[index]], arguments, known)

        if it.opcode == "tuple":
            return tuple(operand(index) for index in range(len(it.operands)))
        if it.opcode in ("get-tuple-element", "copy-done"):
            return _element(operand(0), int(it.attribute("index") or 0))
        if it.opcode == "copy-start":
            return (operand(0), operand(0), None)
        if it.opcode in _SAME and len(it.operands) == 1:
            return operand(0)
        if it.opcode in ("add", "subtract"):
            return _sum(operand(0), operand(1), 1 if it.opcode == "add" else -1)
        if it.opcode in ("fusion", "call") and it.called:
            inner = self.module.computations[it.called[0]]
            given = tuple(operand(index) for index in range(len(it.operands)))
            return self._of(inner, inner.instructions[inner.root], given, {})
        if it.opcode == "while":
            return self.carried(it, operand(0))
        return None

    def carried(self, loop: Instruction, start: Value) -> tuple[Value, ...]:
        """The tuple that a loop carries: elements that no iteration changes keep their value at the start,
        if it is known; the others are variables."""
        body = self.module.computations[loop.attribute("body")]
        count = len(_elements(loop.shape))
        variables: tuple[Value, ...] = tuple(Affine(index, 0) for index in range(count))
        after = self.of(body.name, body.root, (variables,))
        elements: list[Value] = []
        for index in range(count):
            unchanged = _element(after, index) == Affine(index, 0)
            before = _element(start, index)
            constant = isinstance(before, Affine) and before.variable is None
            elements.append(before if unchanged and constant else Affine(index, 0))
        return tuple(elements)


def _elements(shape: str) -> list[str]:
    """Shapes of the elements of a tuple's shape."""
    return list(_parts(shape[1:-1])) if shape.startswith("(") else [shape]


def _element(value: Value, index: int) -> Value:
    if isinstance(value, Affine) or value is None or index >= len(value):
        return None
    return value[index]


def _sum(left: Value, right: Value, sign: int) -> Value:
    if not isinstance(left, Affine) or not isinstance(right, Affine):
        return None
    if right.variable is not None and (left.variable is not None or sign < 0):
        return None
    variable = left.variable if right.variable is None else right.variable
    return Affine(variable, left.offset + sign * right.offset)


def trip_count(values: Values, loop: Instruction, start: Value) -> int | None:
    """Iterations of a while loop that starts from the tuple `start`; None if the text does not tell.

    The text may state the number (`known_trip_count`). Else it follows for a loop whose condition compares a
    counter with a constant, if the counter starts from a constant and moves by a constant step.
    """
    stated = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes)
    if stated:
        return int(stated[1])
    module, carried = values.module, values.carried(loop, start)
    condition = module.computations[loop.attribute("condition")]
    compared = _compared(values, condition, (carried,))
    if compared is None:
        return None
    counter, direction, bound = compared
    assert counter.variable is not None
    body = module.computations[loop.attribute("body")]
    after = _element(values.of(body.name, body.root, (carried,)), counter.variable)
    first = _element(start, counter.variable)
    if not isinstance(after, Affine) or after.variable != counter.variable:
        return None
    if not isinstance(first, Affine) or first.variable is not None:
        return None
    return _iterations(first.offset + counter.offset, after.offset, direction, bound)


_MIRRORED = {"LT": "GT", "GT": "LT", "LE": "GE", "GE": "LE", "NE": "NE", "EQ": "EQ"}


def _compared(
    values: Values, computation: Computation, arguments: tuple[Value, ...]
) -> tuple[Affine, str, int] | None:
    """(counter, direction, constant) of the comparison that a computation returns."""
    root = computation.instructions[computation.root]
    while root.opcode in _SAME and len(root.operands) == 1:
        root = computation.instructions[root.operands[0]]
    operands = [values.of(computation.name, name, arguments) for name in root.operands]
    if root.opcode in ("fusion", "call") and root.called:
        return _compared(values, values.module.computations[root.called[0]], tuple(operands))
    if root.opcode != "compare":
        return None
    left, right = operands
    direction = root.attribute("direction")
    if not isinstance(left, Affine) or not isinstance(right, Affine):
        return None
    if left.variable is None:
        left, right, direction = right, left, _MIRRORED[direction]
    if left.variable is None or right.variable is not None:
        return None
    return left, direction, right.offset


def _iterations(first: int, step: int, direction: str, bound: int) -> int | None:
    """Number of values first, first + step, ... before the comparison with `bound` fails.

    >>> _iterations(0, 1, "LT", 5), _iterations(4, -2, "GE", 0), _iterations(3, 1, "LT", 3)
    (5, 3, 0)
    """
    holds = {
        "LT": first < bound,
        "LE": first <= bound,
        "GT": first > bound,
        "GE": first >= bound,
        "NE": first != bound,
        "EQ": first == bound,
    }[direction]
    if not holds:
        return 0
    gap = bound - first
    if direction == "NE":
        return gap // step if step and gap % step == 0 and gap // step > 0 else None
    if direction == "EQ":
        return 1 if step else None
    if step == 0 or (step > 0) != (direction in ("LT", "LE")):
        return None
    whole = abs(gap) // abs(step)
    exact = abs(gap) % abs(step) == 0
    return whole + (1 if direction in ("LE", "GE") or not exact else 0)
