"""Order, grouping and direction of metrics by their names, `<part>/<part>/...`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Literal

_LOWER = frozenset(
    (
        *("ce", "kl", "cov", "bound_excess", "loss", "squared_error", "excess", "rmse", "calibration_error"),
        "coverage_ratio",
    )
)
_HIGHER = frozenset(
    (
        *("pass", "sampled_pass", "accuracy", "validity", "sampled_validity", "reward"),
        *("pass_all", "cover", "likelihood"),
    )
)
_HEADLINES = re.compile(
    r"train/(loss|reward)|eval/(kl|ce|accuracy|(sampled_)?validity|cov/.+|(sampled_)?pass/.+"
    r"|(pass_all|cover|likelihood|coverage_ratio)/.+|squared_error|excess|rmse|calibration_error)"
)
_SYMBOLS = {
    "kl": "KL (nats)",
    "ce": "Cross-entropy (nats)",
    "cov": "Coverage profile Cov_N",
    "pass": "Pass@N",
    "sampled_pass": "Pass@N, sampled",
    "pass_all": "pass^N",
    "cover": "Cover@tau",
    "likelihood": "Likelihood quantile ln Q(eps) of right responses (nats)",
    "coverage_ratio": "Coverage ratio rho_K, coverage lost over gained since the phase's start",
    "accuracy": "Accuracy",
    "validity": "Validity",
    "sampled_validity": "Validity, sampled",
}
_LINES = {
    "cov": "Cov_",
    "pass": "Pass@",
    "sampled_pass": "Pass@",
    "pass_all": "pass^",
    "cover": "Cover@",
    "likelihood": "ln Q, eps ",
    "coverage_ratio": "rho_",
}


@dataclasses.dataclass(frozen=True)
class Family:
    """Metrics that differ in their last part alone, a number, or a single metric.

    Attributes:
        head: the common part, `eval/cov`, or the whole name of a single metric.
        lines: metric -> its label in a legend, in the order of the numbers.
    """

    head: str
    lines: dict[str, str]

    @property
    def kind(self) -> str:
        """The quantity, `cov` of `eval/G1/cov`."""
        return self.head.rpartition("/")[2]

    @property
    def title(self) -> str:
        """The head and which direction is better, `eval/cov, lower is better`."""
        return titled(self.head)


def natural(name: str) -> list[tuple[int, float, str]]:
    """Sorting key in which the numbers within a name count as numbers.

    >>> sorted(["cov/16", "cov/5.7", "cov/4"], key=natural)
    ['cov/4', 'cov/5.7', 'cov/16']
    """
    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(0, float(part), "") if part[:1].isdigit() else (1, 0.0, part) for part in parts]


def better(name: str) -> Literal["lower", "higher"] | None:
    """Which values of a metric are better; None if the name does not say.

    >>> better("eval/G2/pass/8"), better("eval/cov/5.7"), better("train/gradient_norm")
    ('higher', 'lower', None)
    """
    parts = set(name.split("/"))
    return "higher" if parts & _HIGHER else "lower" if parts & _LOWER else None


def titled(name: str) -> str:
    """A metric's or family's name with the direction.

    >>> titled("eval/cov"), titled("train/gradient_norm")
    ('eval/cov, lower is better', 'train/gradient_norm')
    """
    direction = better(name)
    return name if direction is None else f"{name}, {direction} is better"


def section_title(family: Family) -> str:
    """Title of the section of a family's quantity.

    >>> [section_title(family) for family in families(["eval/cov/4", "train/gradient_norm"])]
    ['Coverage profile Cov_N, lower is better', 'train/gradient_norm']
    """
    direction = better(family.head)
    return _SYMBOLS.get(family.kind, family.head) + ("" if direction is None else f", {direction} is better")


def headline(name: str) -> bool:
    """True for the metrics of the whole mixture that every figure and page shows."""
    return _HEADLINES.fullmatch(name) is not None


def headlines(names: Iterable[str], classes: bool = False) -> list[str]:
    """The headline metrics among `names`, the usual quantities first; if `classes`, those of each class too.

    >>> headlines(["eval/G1/cov/4", "eval/accuracy", "eval/cov/16", "eval/cov/4", "eval/kl"], classes=True)
    ['eval/kl', 'eval/cov/4', 'eval/cov/16', 'eval/G1/cov/4', 'eval/accuracy']
    """

    def place(name: str) -> tuple[int, int, str, list[tuple[int, float, str]]]:
        parts = name.split("/")
        known = [i for i, kind in enumerate(_SYMBOLS) if kind in parts]
        return min(known, default=len(_SYMBOLS)), len(parts), families([name])[0].head, natural(name)

    kept = {name for name in names if headline(name) or (classes and headline(_of_mixture(name)))}
    return sorted(kept, key=place)


def _of_mixture(name: str) -> str:
    """`eval/cov/4` of a class's `eval/G1/cov/4`."""
    first, _, rest = name.partition("/")
    return f"{first}/{rest.partition('/')[2]}"


def families(names: Iterable[str]) -> list[Family]:
    """The metrics by family, in the order of each family's first metric, numbers in increasing order.

    >>> [(family.head, list(family.lines.values())) for family in families(["eval/cov/16", "eval/cov/4"])]
    [('eval/cov', ['Cov_4', 'Cov_16'])]
    """
    members: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        head, _, last = name.rpartition("/")
        members.setdefault(head if head and _is_number(last) else name, []).append(name)
    made = []
    for head, own in members.items():
        start = _LINES.get(head.rpartition("/")[2], "")
        lines = {
            name: (start if name != head else "") + name.rpartition("/")[2]
            for name in sorted(own, key=natural)
        }
        made.append(Family(head, lines))
    return made


def in_order(names: Iterable[str]) -> list[str]:
    """The names with the members of a family together, numbers in increasing order."""
    return [name for family in families(names) for name in family.lines]


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text) is not None
