"""Cycles and bytes of a compiled program, from its text, with loops counted as often as they run.

    sum over instructions of (iterations of the loops around it) x (the compiler's estimate for it)

XLA's TPU compiler writes `estimated_cycles` beside the instructions of its text. Its GPU and CPU compilers
write none. `jax.stages.Compiled.cost_analysis` counts the body of a loop once.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple, TypeAlias

from covlab.plan.hlo import (
    ArrayShape,
    Computation,
    Instruction,
    Module,
    Value,
    Values,
    arrays,
    parse,
    trip_count,
)

Kind: TypeAlias = Literal["products", "reductions", "copies", "collectives", "others"]
KINDS: tuple[Kind, ...] = ("products", "reductions", "copies", "collectives", "others")

_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_GEMM = re.compile(r'custom_call_target="[^"]*(?:gemm|matmul|cublas|cudnn|conv)', re.IGNORECASE)
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier", "add-dependency", "iota", "domain",
}  # fmt: skip
_MOVES = {
    "copy", "copy-start", "copy-done", "transpose", "reshape", "slice", "concatenate", "pad", "reverse",
    "broadcast", "dynamic-slice", "dynamic-update-slice", "gather", "convert", "bitcast-convert",
}  # fmt: skip
_COLLECTIVES = (
    "all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute", "collective-broadcast",
    "send", "recv",
)  # fmt: skip
_READS_A_PART = {"dynamic-slice", "slice", "gather"}


class Where(NamedTuple):
    """One instruction of the text in the sums: its cycles and bytes over all iterations.

    Attributes:
        name, opcode: as in the text.
        op_name: the JAX operation that it comes from, as the compiler keeps it.
        kind: what it does.
        runs: iterations of the loops around it.
        cycles, bytes: over all iterations; cycles are 0 where the compiler estimates none.
    """

    name: str
    opcode: str
    op_name: str
    kind: Kind
    runs: int
    cycles: int
    bytes: float


@dataclasses.dataclass(frozen=True)
class Costs:
    """Costs of one call of a compiled program on one device.

    Attributes:
        instructions: every instruction that costs something.
        unknown: names of the loops whose number of iterations the text does not tell; they count once.
        estimated: True if the compiler estimated the cycles of at least one instruction.
    """

    instructions: tuple[Where, ...]
    unknown: tuple[str, ...]
    estimated: bool

    @property
    def cycles(self) -> int:
        """The compiler's estimate of all cycles."""
        return sum(each.cycles for each in self.instructions)

    @property
    def bytes(self) -> float:
        """Bytes read from and written to the device's main memory, without the padding of tiles."""
        return sum(each.bytes for each in self.instructions)

    @property
    def collectives(self) -> int:
        """Number of collective operations."""
        return sum(each.runs for each in self.instructions if each.kind == "collectives")

    def shares(self) -> Mapping[Kind, float]:
        """Share of each kind in the cycles, or in the bytes where no cycles are estimated; they sum to 1."""
        sums: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)
        for each in self.instructions:
            sums[each.kind] += each.cycles if self.estimated else each.bytes
        total = sum(sums.values())
        return {kind: value / total if total else 0.0 for kind, value in sums.items()}


def read(text: str) -> Costs:
    """Costs of a compiled program from its text.

    A conditional counts the branch with the most cycles, or else bytes. Bytes are those of operands and
    results of the instructions outside fusions: a slice reads its result and an update in place writes the
    update. Arrays in memory on the chip, as XLA's layouts name it (`S(1)`), count as no bytes.

    Raises:
        HloError: a text that is not an HLO module.
    """
    return _Reader(parse(text)).costs()


class _Reader:
    def __init__(self, module: Module) -> None:
        self.module, self.values = module, Values(module)
        self.unknown: list[str] = []
        self._kinds: dict[str, Kind] = {}

    def costs(self) -> Costs:
        found = self._walk(self.module.entry, 1, ())
        estimated = any(_CYCLES.search(it.attributes) for each in self._all() for it in each)
        return Costs(tuple(found), tuple(self.unknown), estimated)

    def _all(self) -> list[Computation]:
        return list(self.module.computations.values())

    def _walk(self, name: str, runs: int, arguments: tuple[Value, ...]) -> list[Where]:
        own = self.module.computations[name]
        found: list[Where] = []
        for it in own:
            if it.opcode == "while":
                found += self._loop(own, it, runs, arguments)
            elif it.opcode == "conditional":
                branches = [self._walk(called, runs, ()) for called in it.called]
                found += max(branches, key=_weight) if branches else []
            elif it.opcode == "call" or (it.opcode == "async-start" and not _CYCLES.search(it.attributes)):
                given = tuple(self.values.of(name, operand, arguments) for operand in it.operands)
                for called in it.called:
                    found += self._walk(called, runs, given)
            elif it.opcode not in _FREE and not it.opcode.endswith(("-done", "-update")):
                found.append(self._one(own, it, runs))
        return found

    def _loop(
        self, own: Computation, it: Instruction, runs: int, arguments: tuple[Value, ...]
    ) -> list[Where]:
        start = self.values.of(own.name, it.operands[0], arguments)
        count = trip_count(self.values, it, start)
        if count is None:
            self.unknown.append(it.name)
            count = 1
        carried = self.values.carried(it, start)
        return self._walk(it.attribute("body"), runs * count, (carried,))

    def _one(self, own: Computation, it: Instruction, runs: int) -> Where:
        estimate = _CYCLES.search(it.attributes)
        op_name = _OP_NAME.search(it.attributes)
        return Where(
            it.name,
            it.opcode,
            op_name[1] if op_name else "",
            self._kind(it),
            runs,
            runs * int(estimate[1]) if estimate else 0,
            runs * self._bytes(own, it),
        )

    def _kind(self, it: Instruction) -> Kind:
        opcodes = {it.opcode}
        if it.opcode == "fusion":
            opcodes = self.module.opcodes(it.called[0]) - _FREE - {"fusion"}
        if opcodes & {"dot", "convolution"} or (it.opcode == "custom-call" and _GEMM.search(it.attributes)):
            return "products"
        if any(opcode.startswith(_COLLECTIVES) for opcode in opcodes):
            return "collectives"
        if opcodes & {"reduce", "reduce-window"}:
            return "reductions"
        return "copies" if opcodes <= _MOVES else "others"

    def _bytes(self, own: Computation, it: Instruction) -> float:
        if it.opcode == "copy-start":
            # The result names the target, the source and a flag.
            return sum(_stored(part) for part in arrays(it.shape)[:2])
        if it.opcode in _READS_A_PART:
            return 2 * _bytes_of(it.shape)
        if it.opcode == "dynamic-update-slice":
            return 2 * _bytes_of(own.instructions[it.operands[1]].shape)
        if it.opcode == "fusion":
            return self._of_fusion(own, it)
        read = sum(_bytes_of(own.instructions[name].shape) for name in it.operands)
        if it.opcode == "custom-call" and _GEMM.search(it.attributes):
            # A library's product names its work space behind the result.
            return read + sum(_stored(array) for array in arrays(it.shape)[:1])
        return read + _bytes_of(it.shape)

    def _of_fusion(self, own: Computation, it: Instruction) -> float:
        inner = self.module.computations[it.called[0]]
        users: dict[str, list[Instruction]] = collections.defaultdict(list)
        for each in inner:
            for name in each.operands if each.opcode not in ("parameter", "constant") else ():
                users[name].append(each)
        root = inner.instructions[inner.root]
        written = _bytes_of(it.shape)
        if root.opcode == "dynamic-update-slice":
            written = _part_in_place(inner, root, it)
        total = written
        for each in inner:
            if each.opcode != "parameter":
                continue
            operand = own.instructions[it.operands[int(each.operands[0])]]
            readers = users[each.name]
            if any(not array.space for array in arrays(operand.shape)):
                total += min(_bytes_of(operand.shape), sum(_read_by(user, each, inner) for user in readers))
        return total


def _read_by(user: Instruction, parameter: Instruction, inner: Computation) -> float:
    """Bytes of a fusion's parameter that one of its readers needs."""
    if user.opcode in _READS_A_PART and user.operands[0] == parameter.name:
        return sum(array.bytes for array in arrays(user.shape))
    if user.opcode == "dynamic-update-slice" and user.operands[0] == parameter.name:
        return sum(array.bytes for array in arrays(inner.instructions[user.operands[1]].shape))
    return sum(array.bytes for array in arrays(parameter.shape))


def _part_in_place(inner: Computation, root: Instruction, fusion: Instruction) -> float:
    if all(array.space for array in arrays(fusion.shape)):
        return 0.0
    return sum(array.bytes for array in arrays(inner.instructions[root.operands[1]].shape))


def _stored(array: ArrayShape) -> float:
    """Bytes of an array in main memory."""
    return 0.0 if array.space else array.bytes


def _bytes_of(shape: str) -> float:
    return sum(_stored(array) for array in arrays(shape))


def _weight(found: Iterable[Where]) -> tuple[int, float]:
    places = list(found)
    return sum(each.cycles for each in places), sum(each.bytes for each in places)
