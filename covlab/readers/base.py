"""The seam of a reader: what it gets, what it returns, and the checks that every format shares.

A reader turns one source (a file or folder) into checkpoints. A checkpoint has for each example ln pi(y|x),
the sum over the tokens of the held-out response y in nats, or counts: n responses sampled, c of them correct.
Examples are recognised by content (prompt and target), never by their place in a file.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from covlab.readers.contents import Contents, digest, shown
from metrics.pass_rates import LOG_PROB_SLACK
from tracking import LoadError

MISSING = (None, "", "nan", "NaN", "null", "None")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the user asks of the sources; a reader uses the fields that its format knows.

    Attributes:
        tasks: name or pattern of the tasks, where one source holds several.
        filter: the answer filter of lm-evaluation-harness and every-eval-ever: its name, or its place from 1.
        score: which number says that a response is right: a metric, scorer, reward or column.
        solved: a response is right if the score is at least this; None demands scores of 0 and 1.
        verifier: `module:function`, a function of (response, target, record) that returns True if it is
            right.
        contents: examples that earlier sources had, so that equal texts are not hashed again.
    """

    tasks: str | None = None
    filter: str | None = None
    score: str | None = None
    solved: float | None = None
    verifier: str | None = None
    contents: Contents = dataclasses.field(default_factory=Contents, init=False, compare=False, repr=False)

    def judge(self) -> Callable[[str, Any, Mapping[str, Any]], bool] | None:
        """The verifier's function; None without one.

        Raises:
            ValueError: it cannot be imported; one line.
        """
        if self.verifier is None:
            return None
        module, _, name = str(self.verifier).partition(":")
        try:
            function = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise LoadError(f"verifier: {self.verifier!r}: {error}; valid: <module>:<function>") from None
        if not callable(function):
            raise LoadError(f"verifier: {self.verifier!r} is not a function")
        return lambda response, target, record: _as_verdict(function(response, target, record), self.verifier)

    def is_right(self, where: str, value: Any) -> bool | None:
        """True, False, or None for a missing score.

        Raises:
            ValueError: a score that is neither 0 nor 1 without `solved`, or not a number.
        """
        number = number_or_none(where, value)
        if number is None:
            return None
        if self.solved is not None:
            return number >= self.solved
        if number not in (0.0, 1.0):
            raise LoadError(
                f"{where}: {number:g} is neither 0 nor 1; valid: solved=<least score of a right one>"
            )
        return number == 1.0


def _as_verdict(value: Any, name: Any) -> bool:
    if isinstance(value, bool | np.bool_) or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    raise LoadError(f"verifier: {name} returned {value!r}; valid: True or False")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint did; all arrays are in the order of `keys`.

    Attributes:
        name: its name in tables, unique after joining.
        source: the file or folder.
        keys: digests of the examples' contents.
        labels: short texts that name the examples to a reader.
        log_probs: ln pi(y|x) in nats; -inf is a value.
        num_bytes: bytes of the response in UTF-8; 0 where unknown.
        num_samples, num_correct: n and c.
        notes: facts that a user has to know, a line each.
        ordered: True if the source has several checkpoints in the order of training.
    """

    name: str
    source: str
    keys: Sequence[bytes]
    labels: Sequence[str]
    log_probs: Float[np.ndarray, " examples"] | None = None
    num_bytes: Int[np.ndarray, " examples"] | None = None
    num_samples: Int[np.ndarray, " examples"] | None = None
    num_correct: Int[np.ndarray, " examples"] | None = None
    notes: tuple[str, ...] = ()
    ordered: bool = False


class Reader(Protocol):
    """A format. `READER` of a module, or of an entry point in the group `covlab.readers`."""

    name: str
    summary: str

    def recognises(self, source: Path) -> bool:
        """True if the source looks like this format, judged by names and first lines."""

    def read(self, source: Path, wanted: Wanted) -> list[Checkpoint]:
        """The checkpoints of the source. ValueError, one line, where a number would be wrong."""


def number_or_none(where: str, value: Any) -> float | None:
    """A number, also from text; None for null, NaN and empty text.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, bool | np.bool_):
        return float(value)
    if value is None or (isinstance(value, str) and value.strip() in MISSING):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise LoadError(f"{where}: {shown(value)!r} is not a number") from None
    return None if math.isnan(number) else number


def log_prob_or_none(where: str, value: Any) -> float | None:
    """A log-probability in nats; None if missing; -inf is a value.

    Raises:
        ValueError: +inf, or above 0 by more than rounding.
    """
    number = None if isinstance(value, bool) else number_or_none(where, value)
    if isinstance(value, bool):
        raise LoadError(f"{where}: {value} is not a log-probability")
    if number is not None and number > LOG_PROB_SLACK:
        raise LoadError(f"{where}: {number:g}; valid: log-probabilities <= 0 in nats (a loss is minus that)")
    return number


_scan = json.JSONDecoder().raw_decode


def _parsed(line: str) -> Any:
    """The value of a line. On short lines half of the time of `json.loads` is for blanks around a value."""
    try:
        value, end = _scan(line)
    except ValueError:
        end = None
    return value if end is not None and line[end:] == "\n" else json.loads(line)


def json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a JSON Lines file; NaN and infinities are read as numbers.

    Raises:
        ValueError: a file that cannot be read, a line that is torn or not an object.
    """
    try:
        with file.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if not line.strip():
                    continue
                try:
                    record = _parsed(line)
                except ValueError:
                    torn = "" if line.endswith("\n") else ", torn off at its end"
                    raise LoadError(f"{file}: line {number} is not JSON{torn}") from None
                if not isinstance(record, dict):
                    raise LoadError(f"{file}: line {number} is not a JSON object")
                yield number, record
    except (OSError, UnicodeDecodeError) as error:
        raise LoadError(f"{file}: {' '.join(str(error).split())}") from None


def first_record(file: Path) -> dict[str, Any]:
    """The first object of a JSON Lines file; empty if there is none."""
    try:
        return next(json_lines(file), (0, {}))[1]
    except LoadError:
        return {}


def whole_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: it cannot be read, or is torn.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise LoadError(f"{file}: not readable JSON: {' '.join(str(error).split())[:100]}") from None


def the_only(field: str, names: Sequence[str], asked: str | None, where: str) -> str:
    """`asked`, or the only name there is.

    Raises:
        ValueError: there is no such name, or there are several and none is asked for.
    """
    if asked is not None:
        if asked not in names:
            raise LoadError(
                f"{field}: {asked!r} is not in {where}; valid: {', '.join(names) or 'none there'}"
            )
        return asked
    if len(names) != 1:
        raise LoadError(
            f"{where}: {len(names)} of them; valid: {field}= one of {', '.join(names) or 'none there'}"
        )
    return names[0]


class Collector:
    """Gathers the examples of one checkpoint, whatever their order, and refuses what is ambiguous."""

    def __init__(self, source: Path | str) -> None:
        self.source = str(source)
        self._named: dict[Hashable, tuple[bytes, int]] = {}
        self._unnamed: dict[bytes, int] = {}
        self._occurrences: dict[bytes, int] = {}
        self._keys: list[bytes] = []
        self._labels: list[str] = []
        self._log_probs: dict[int, float | None] = {}
        self._bytes: dict[int, int] = {}
        self._samples: dict[int, list[int]] = {}
        self._seen: set[Hashable] = set()
        self.unscored = 0
        self.notes: list[str] = []

    def place(self, ident: Hashable, content: bytes, label: str = "") -> int:
        """The row of an example. `ident` is the file's own name of it, None if the format has none.

        Examples of different names and equal content are told apart by their order, which is harmless: to a
        model they are the same.

        Raises:
            ValueError: one name with two contents.
        """
        if ident is None:
            row = self._unnamed.get(content)
        else:
            known, row = self._named.get(ident, (content, None))
            if known != content:
                raise LoadError(f"{self.source}: example {_name(ident)} occurs with two different contents")
        return self._new(ident, content, label) if row is None else row

    def _new(self, ident: Hashable, content: bytes, label: str) -> int:
        row, number = len(self._keys), self._occurrences.get(content, 0) + (content in self._unnamed)
        if ident is None:
            self._unnamed[content] = row
        else:
            self._named[ident] = content, row
            self._occurrences[content] = self._occurrences.get(content, 0) + 1
        self._keys.append(content if not number else digest(content.hex(), number))
        self._labels.append(label or str(ident))
        return row

    def log_prob(self, row: int, value: float | None, num_bytes: int = 0) -> None:
        """ln pi(y|x) of a row.

        Raises:
            ValueError: the row has one already.
        """
        if row in self._log_probs:
            raise LoadError(f"{self.source}: example {self._labels[row]!r} occurs twice")
        self._log_probs[row] = value
        self._bytes[row] = num_bytes

    def scored(self, content: bytes, label: str, value: float, num_bytes: int) -> None:
        """`log_prob` of the `place` of an example without a name, in one call: a file may have millions."""
        if content in self._unnamed or content in self._occurrences:
            self.log_prob(self.place(None, content, label), value, num_bytes)
            return
        row = self._unnamed[content] = len(self._keys)
        self._keys.append(content)
        self._labels.append(label)
        self._log_probs[row] = value
        self._bytes[row] = num_bytes

    def sample(self, row: int, right: bool | None, ident: Hashable = None) -> None:
        """One sampled response; None for a failed one, which is neither right nor wrong.

        Raises:
            ValueError: this sample of this example was there already.
        """
        if ident is not None:
            if (row, ident) in self._seen:
                raise LoadError(
                    f"{self.source}: sample {ident} of example {self._labels[row]!r} occurs twice"
                )
            self._seen.add((row, ident))
        counts = self._samples.setdefault(row, [0, 0])
        if right is None:
            self.unscored += 1
            return
        counts[0] += 1
        counts[1] += right

    def counts(self, row: int, num_samples: int, num_correct: int) -> None:
        """n and c of a row.

        Raises:
            ValueError: the row has them already, or c is not in 0 to n.
        """
        if row in self._samples:
            raise LoadError(f"{self.source}: example {self._labels[row]!r} occurs twice")
        if not 0 <= num_correct <= num_samples:
            raise LoadError(
                f"{self.source}: example {self._labels[row]!r}: {num_correct} of {num_samples} are correct; "
                f"valid: 0 <= c <= n"
            )
        self._samples[row] = [num_samples, num_correct]

    def checkpoint(self, name: str) -> Checkpoint:
        """The checkpoint, without the examples that have no value.

        Raises:
            ValueError: nothing is left.
        """
        keys = self._keys
        notes = list(self.notes)
        if self.unscored:
            notes.append(
                f"{name}: {self.unscored} responses have no score and count neither as right nor wrong"
            )
        kept = [row for row in range(len(keys)) if self._has_value(row)]
        if missing := len(keys) - len(kept):
            notes.append(f"{name}: {missing} of {len(keys)} examples have no value (null, NaN or failed)")
        if not kept:
            raise LoadError(f"{self.source}: no example has a value")
        log_probs = num_bytes = n = c = None
        if self._log_probs:
            log_probs = np.array([self._log_probs[row] for row in kept], np.float64)
            num_bytes = np.array([self._bytes[row] for row in kept], np.int64)
        if self._samples:
            n = np.array([self._samples[row][0] for row in kept], np.int64)
            c = np.array([self._samples[row][1] for row in kept], np.int64)
        chosen = [keys[row] for row in kept], [self._labels[row] for row in kept]
        return Checkpoint(name, self.source, *chosen, log_probs, num_bytes, n, c, tuple(notes))

    def _has_value(self, row: int) -> bool:
        if self._log_probs and self._log_probs.get(row) is None:
            return False
        return not self._samples or self._samples.get(row, [0])[0] > 0


def _name(ident: Hashable) -> str:
    return " ".join(map(str, ident)) if isinstance(ident, tuple) else str(ident)
