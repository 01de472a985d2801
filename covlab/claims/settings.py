"""Settings of a claim: a frozen dataclass whose field annotations check the values.

    @dataclass(frozen=True)
    class Settings:
        draws: Annotated[int, Whole(32)] = 96  # instances of each size
        epsilons: Annotated[tuple[float, ...], Reals(0, 0.5)] = (0.3, 0.1)

    settings = read(Settings, config)

A check is one of the classes below, or any other function of the field's name and value.
"""

from __future__ import annotations

import dataclasses
import itertools
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from omegaconf import OmegaConf

from tasks import check_seed
from tasks.checks import flag, real, reals, whole, wholes

__all__ = [
    *("Flag", "Given", "Increasing", "OneOf", "Overrides", "Real", "Reals", "Section", "Seed", "Whole"),
    *("Wholes", "check_mapping", "check_names", "mapping"),
    "read",
]

S = TypeVar("S")


@dataclasses.dataclass(frozen=True)
class Whole:
    """An integer >= `least` and, if `most` is given, <= `most`."""

    least: int = 0
    most: int | None = None

    def __call__(self, field: str, value: Any) -> int:
        return whole(field, value, self.least, self.most)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Real:
    """A finite number > `above` or >= `least`, and < `below` or <= `most`."""

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None

    def __call__(self, field: str, value: Any) -> float:
        return real(field, value, above=self.above, least=self.least, below=self.below, most=self.most)


@dataclasses.dataclass(frozen=True)
class Wholes:
    """At least `at_least` different integers >= `least`, kept in increasing order."""

    least: int = 0
    at_least: int = 1

    def __call__(self, field: str, value: Any) -> tuple[int, ...]:
        return wholes(field, value, self.least, self.at_least)


@dataclasses.dataclass(frozen=True)
class Reals:
    """At least `at_least` different numbers strictly between `above` and `below`, in increasing order."""

    above: float
    below: float
    at_least: int = 1

    def __call__(self, field: str, value: Any) -> tuple[float, ...]:
        return reals(field, value, self.above, self.below, self.at_least)


@dataclasses.dataclass(frozen=True)
class Increasing:
    """At least three increasing numbers strictly between two bounds."""

    above: float
    below: float

    def __call__(self, field: str, value: Any) -> tuple[float, ...]:
        items = value if isinstance(value, list | tuple) else ()
        numbers = tuple(real(field, item, above=self.above, below=self.below) for item in items)
        if len(numbers) < 3 or any(b <= a for a, b in itertools.pairwise(numbers)):
            raise ValueError(f"{field}: {value}; valid: at least 3 increasing numbers")
        return numbers


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or false."""

    def __call__(self, field: str, value: Any) -> bool:
        return flag(field, value)


@dataclasses.dataclass(frozen=True)
class Seed:
    """A seed that is valid for every random stream, see `tasks.check_seed`."""

    def __call__(self, field: str, value: Any) -> int:
        return check_seed(field, value)


@dataclasses.dataclass(frozen=True)
class Given:
    """Any value, for a field that `__post_init__` checks because its range depends on another field."""

    def __call__(self, field: str, value: Any) -> Any:
        return value


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One of the given texts."""

    valid: tuple[str, ...]

    def __call__(self, field: str, value: Any) -> str:
        if value not in self.valid:
            raise ValueError(f"{field}: {value!r} is not one of {', '.join(self.valid)}")
        return str(value)


@dataclasses.dataclass(frozen=True)
class Overrides:
    """A mapping with some of the keys; null for none."""

    keys: tuple[str, ...]

    def __call__(self, field: str, value: Any) -> dict[str, Any]:
        valid = ", ".join(self.keys)
        if not isinstance(value, Mapping | None):
            raise ValueError(f"{field}: {value!r} is not a mapping; valid keys are {valid}")
        for key in map(str, value or {}):
            if key not in self.keys:
                raise ValueError(f"{field}.{key}: no such field; valid are {valid}")
        return dict(value or {})


@dataclasses.dataclass(frozen=True)
class Section:
    """A mapping with exactly the fields of the dataclass `kind`, of which it becomes an instance."""

    kind: type[Any]

    def __call__(self, field: str, value: Any) -> Any:
        names = [part.name for part in dataclasses.fields(self.kind)]
        if not isinstance(value, Mapping) or set(value) != set(names):
            raise ValueError(f"{field}: {value!r}; valid: a mapping with {', '.join(names)}")
        return read(self.kind, value, field)


def mapping(field: str, value: Any) -> Mapping[str, Any]:
    """The value, a mapping.

    Raises:
        ValueError: the value is not a mapping.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{field}: {value!r} is not a mapping")
    return value


def check_mapping(field: str, value: Any, at_least: int = 1) -> tuple[str, ...]:
    """The names of a mapping's entries.

    Raises:
        ValueError: not a mapping, or too few entries.
    """
    if not isinstance(value, Mapping) or len(value) < at_least:
        raise ValueError(f"{field}: {value!r} is not a mapping with at least {at_least} entries")
    return tuple(map(str, value))


def check_names(field: str, names: Iterable[str], taken: str = "") -> None:
    """Refuse names of runs that cannot be a directory's, and the name that is taken.

    Raises:
        ValueError: such a name.
    """
    other = f" other than {taken}" if taken else ""
    for name in names:
        if name == taken or not name.replace("_", "").isalnum():
            raise ValueError(f"{field}: {name!r} is no name of letters, digits and _{other}")


Check = Callable[[str, Any], Any]
"""A field's check: takes the field's full name and the given value, returns the value to keep."""


def read(kind: type[S], config: Mapping[Any, Any], where: str = "") -> S:
    """The settings of a configuration, every field checked by its annotation.

    Args:
        kind: a dataclass whose fields are `Annotated[<type>, <check>]`. Conditions on several fields are
            checked in `__post_init__`.
        config: a mapping with a value for each field; further keys are ignored.
        where: the dotted name of the mapping, for messages.

    Raises:
        ValueError: one line that names the field, its value and what would be valid.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Settings:
        ...     draws: typing.Annotated[int, Whole(32)]
        >>> read(Settings, {"draws": 64})
        Settings(draws=64)
        >>> read(Settings, {"draws": 8})
        Traceback (most recent call last):
        ValueError: draws: 8 is not an integer >= 32
    """
    values: Any = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    prefix = f"{where}." if where else ""
    checks = field_checks(kind).items()
    for name, _ in checks:
        if name not in values:
            raise ValueError(
                f"{prefix}{name}: is not set; valid: an experiment that sets it, as scale=cpu does"
            )
    return kind(**{name: check(f"{prefix}{name}", values[name]) for name, check in checks})


def field_checks(kind: type[Any]) -> dict[str, Check]:
    """The check of each field.

    Raises:
        TypeError: a field's annotation has no check.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    checks: dict[str, Check] = {}
    for field in dataclasses.fields(kind):
        metadata = getattr(hints[field.name], "__metadata__", ())
        check = next((item for item in metadata if callable(item)), None)
        if check is None:
            raise TypeError(f"{kind.__qualname__}.{field.name}: Annotated[<type>, <check>] is needed")
        checks[field.name] = check
    return checks
