"""The checkpoint to take by counts of right responses, and what a stage of training lost and gained."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from covlab.evaluated.section import Section, Table, bootstrap_content, generator, plain, recommendation
from covlab.readers.joining import Counts
from covlab.report import plotting as draw
from metrics import Interval, name_of_n
from metrics.counts import (
    changed_examples,
    check_counts,
    compare_pass_at_n,
    pass_all_n_of_counts,
    pass_at_n_of_counts,
    share_interval,
)
from metrics.cover_at_tau import cover_at_tau
from metrics.coverage_ratio import LEAST_PROMPTS, coverage_ratio_of_counts
from metrics.resampled import bootstrap_lowest

PASS_NS = (1, 4, 16, 64, 256)
"""N of Pass@N, as far as the smallest number of samples allows."""
TAUS = (0.1, 0.5)
_SHOWN = 5
"""Lost and gained examples that are printed; the JSON file has all."""


def of_counts(
    table: Counts,
    ns: Sequence[int] | None = None,
    taus: Sequence[float] = TAUS,
    pair: Sequence[str] | None = None,
    resamples: int = 400,
) -> Section:
    """Pass@N, pass^N, Cover@tau, the recommendation by Pass@N at the largest N, and the change over `pair`.

    Raises:
        ValueError: an N above the smallest number of samples, a tau outside (0, 1], an unknown checkpoint.
    """
    least = int(table.num_samples.min())
    chosen_ns = tuple(ns) if ns else tuple(n for n in PASS_NS if n <= least)
    n, c = check_counts(table.num_samples, table.num_correct, chosen_ns)
    if n.shape[1] < 2:
        raise ValueError(f"examples: {n.shape[1]}; valid: at least 2, over which intervals are")
    first, second = _pair(table.names, pair)
    passes, whole = pass_at_n_of_counts(n, c, chosen_ns), pass_all_n_of_counts(n, c, chosen_ns)
    section = Section(
        content={"checkpoints": list(table.names), "examples": n.shape[1], "num_samples": least}
    )
    measured: list[dict[str, Interval]] = []
    for i in range(len(n)):
        one = {f"Pass@{name_of_n(k)}": share_interval(passes[i, :, j]) for j, k in enumerate(chosen_ns)}
        one |= {
            f"pass^{name_of_n(k)}": share_interval(whole[i, :, j]) for j, k in enumerate(chosen_ns) if k > 1
        }
        covers = cover_at_tau(n[i], c[i], taus)
        one |= {f"Cover@{cover.tau:g}": cover.deconvolved for cover in covers}
        measured.append(one)
        section.content.setdefault("share_of_c_over_n_at_least_tau", []).append(
            {f"{cover.tau:g}": cover.naive for cover in covers}
        )
    section.content["measured"] = [{key: plain(value) for key, value in one.items()} for one in measured]
    title = f"Counts over {n.shape[1]} examples, {_samples(n)} responses each, mean [95 % over examples]"
    section.tables.append(
        Table(
            title,
            ["checkpoint", *measured[0]],
            [[name, *one.values()] for name, one in zip(table.names, measured, strict=True)],
        )
    )
    section.sentences.append(
        "Cover@tau has the noise of c/n deconvolved; its interval holds for every law of the examples' "
        "success "
        "probabilities that agrees with the counts."
    )
    largest = chosen_ns[int(np.argmax(chosen_ns))]
    at = chosen_ns.index(largest)
    best = bootstrap_lowest(1 - passes[:, :, at], generator("counts"), resamples)
    section.content["recommendation"] = {
        "rule": f"Pass@{largest}",
        **bootstrap_content(table.names, best),
    }
    if len(n) > 1:
        _compare(section, table, largest, best.index)
        # Half of the responses at the start decide which examples count, by an estimate from more than K.
        half = int(table.num_samples[first].min()) // 2
        _change(section, table, first, second, max((k for k in chosen_ns if k < half), default=None))
    section.sentences.append(recommendation(table.names, best, f"largest Pass@{largest}"))
    section.figures["counts"] = figure(table.names, chosen_ns, measured, best.index)
    return section


def _samples(n: np.ndarray) -> str:
    return f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"


def _pair(names: Sequence[str], pair: Sequence[str] | None) -> tuple[int, int]:
    """Places of the two checkpoints whose change is measured; by default the first and the last."""
    if pair is None:
        return 0, len(names) - 1
    if len(pair) != 2 or pair[0] == pair[1] or any(name not in names for name in pair):
        raise ValueError(f"pair: {list(pair)}; valid: two different of {', '.join(names)}")
    return names.index(pair[0]), names.index(pair[1])


def _compare(section: Section, table: Counts, n: int, best: int) -> None:
    """Pass@N of the best checkpoint against every other."""
    of = [(table.num_samples[i], table.num_correct[i]) for i in range(len(table.names))]
    rows: list[list[Any]] = []
    content: dict[str, Any] = {}
    for i, name in enumerate(table.names):
        if i == best:
            continue
        found = compare_pass_at_n(of[i], of[best], n)
        verdict = "yes" if found.told_apart else "no"
        rows.append(
            [
                name,
                found.difference,
                verdict,
                found.detectable,
                found.examples_needed,
                f"{found.sampling_share:.0%}",
            ]
        )
        content[name] = {**dataclasses.asdict(found), "told_apart": found.told_apart}
    heads = [
        "checkpoint",
        f"Pass@{n} of {table.names[best]} minus its own",
        "told apart",
        "detectable",
        "examples needed",
    ]
    section.tables.append(
        Table(
            f"Power: what {table.num_samples.shape[1]} examples can show",
            [*heads, "variance from sampling"],
            rows,
        )
    )
    section.content["against_the_best"] = content
    if unclear := [row[0] for row in rows if row[2] == "no"]:
        shown = ", ".join(unclear[:4]) + (f" and {len(unclear) - 4} more" if len(unclear) > 4 else "")
        section.sentences.append(
            f"With n = {_samples(table.num_samples)} samples of {table.num_samples.shape[1]} examples, "
            f"Pass@{n} of "
            f"{table.names[best]} and {shown} cannot be told apart."
        )


def _change(section: Section, table: Counts, first: int, second: int, k: int | None) -> None:
    """The coverage ratio, and the examples lost and gained; no ratio without `k`."""
    start, end = ((table.num_samples[i], table.num_correct[i]) for i in (first, second))
    names = (table.names[first], table.names[second])
    change = changed_examples(start, end)
    groups = {
        sign: [table.labels[i] for i in np.flatnonzero(change == value)]
        for sign, value in (("lost", -1), ("gained", 1))
    }
    section.content["change"] = {
        "from": names[0],
        "to": names[1],
        "coverage_ratio": None if k is None else _ratio(section, start, end, names, k),
        **groups,
        "never_right_any_more": int(((start[1] > 0) & (end[1] == 0)).sum()),
    }
    if k is None:
        section.sentences.append("The coverage ratio needs at least 4 responses per example at the start.")
    for what, labels in groups.items():
        shown = "; ".join(labels[:_SHOWN]) + ("; ..." if len(labels) > _SHOWN else "")
        section.sentences.append(
            f"{what} from {names[0]} to {names[1]} beyond noise: {len(labels)} "
            f"examples{': ' if labels else ''}{shown}."
        )


def _ratio(
    section: Section,
    start: tuple[np.ndarray, np.ndarray],
    end: tuple[np.ndarray, np.ndarray],
    names: tuple[str, str],
    k: int,
) -> dict[str, Any]:
    """Add the coverage ratio to the section; returns it as JSON."""
    found = coverage_ratio_of_counts(start, end, k, generator("coverage ratio"))
    section.tables.append(
        Table(
            f"From {names[0]} to {names[1]}: examples with Pass@{k} between .05 and .95 at the start",
            [f"rho_{k}", "lost", "gained", "of these by noise, at most", "examples"],
            [[found.ratio, found.lost, found.gained, found.noise, round(found.prompts, 1)]],
        )
    )
    if found.prompts < LEAST_PROMPTS:
        section.sentences.append(
            f"rho_{k}: {found.prompts:.1f} examples are between .05 and .95 at the start, fewer than "
            f"{LEAST_PROMPTS}, which tell nothing."
        )
    elif found.ratio.low <= 1 <= found.ratio.high:
        section.sentences.append(
            f"rho_{k}: whether more coverage was lost or gained cannot be told from {start[0].min()} "
            f"responses of {start[0].size} examples."
        )
    return {**dataclasses.asdict(found), "k": k}


def figure(
    names: Sequence[str], ns: Sequence[int], measured: Sequence[dict[str, Interval]], best: int
) -> Figure:
    """Pass@N by checkpoint with 95 % intervals."""
    with mpl.rc_context(draw.STYLE):
        fig, axes = draw.new_figure(1, 1, (7.5, 4.2))
        axis = axes[0, 0]
        places = np.arange(len(names))
        for colour, n in zip(draw.ordered_colours(len(ns)), sorted(ns), strict=True):
            intervals = [one[f"Pass@{name_of_n(n)}"] for one in measured]
            values = np.array([each.estimate for each in intervals])
            ends = draw.error_bars(*intervals)
            axis.errorbar(places, values, ends, color=colour, marker="o", ms=3, label=f"Pass@{n}")
        axis.axvline(best, color=draw.RED, linestyle=draw.DASHED, linewidth=1.2, label="recommended")
        step = max(1, len(names) // 8)
        axis.set_xticks(places[::step], names[::step], rotation=30, ha="right", fontsize=7.5)
        axis.set(ylabel="Pass@N", ylim=(-0.02, 1.02))
        axis.legend(fontsize=8.5)
    return fig


def pass_at_n_of(table: Counts, ns: Sequence[int] | None) -> dict[str, Any]:
    """`Pass@N` -> its mean over examples for each checkpoint."""
    least = int(table.num_samples.min())
    chosen: Any = tuple(ns) if ns else tuple(n for n in PASS_NS if n <= least)
    values = pass_at_n_of_counts(table.num_samples, table.num_correct, chosen).mean(axis=1)
    return {f"Pass@{name_of_n(n)}": values[:, j] for j, n in enumerate(chosen)}
