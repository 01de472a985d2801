"""The page of a plan, in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from covlab.plan.programs import Compiled
from covlab.plan.run import RunPlan
from covlab.plan.search import Candidate, soonest
from covlab.plan.store import versions
from covlab.plan.target import GIB, Target
from covlab.report.tables import markdown

_MIB = 2**20
_COLUMNS = (
    "phase", "program", "calls", "GFLOP", "MB moved", "Mcycles", "ms", "roofline ms",
    "MiB a device", "compile s",
)  # fmt: skip
_NOTES = (
    "Calls: training steps and evaluations of the run. FLOP: of matrix products, of all seeds on a device.",
    "MB moved: between the main memory and the chip, without the padding of tiles. Mcycles and ms: the "
    "compiler's estimate, with loops as often as they run; without an estimate the roofline, the larger of "
    "FLOP over peak and bytes over bandwidth, which no program reaches.",
    "MiB a device: arguments, outputs, temporary arrays and code. Hours leave out compiling, the host and "
    "checkpoints. Not compiled: the check of the model before the first step, and the judging of the table.",
)


def page(
    title: str,
    command: str,
    target: Target,
    runs: Sequence[RunPlan],
    left_out: Sequence[str],
    searched: Sequence[Candidate] = (),
) -> str:
    """The plan of a run, or of the runs of a claim, on one page.

    Args:
        title: what is planned.
        command: the command that makes the page.
        target: the hardware.
        runs: the runs, in turn.
        left_out: what the plan does not cover, in one line each.
        searched: ways to run the seeds, of which `runs` then has the soonest.
    """
    lines = [f"# {title} on {target.name}", "", f"`{command}`", "", *_chip(target), ""]
    if searched:
        lines += [*_search(target, searched), ""]
    for run in runs:
        lines += [*_run(run), ""]
    if len(runs) > 1:
        lines += [*_total(target, runs), ""]
    lines += [f"- {text}" for text in left_out]
    return "\n".join([*lines, *([""] if left_out else []), *_NOTES, ""])


def _search(target: Target, searched: Sequence[Candidate]) -> Iterator[str]:
    yield "## Ways to run the seeds"
    yield ""
    rows = []
    for each in searched:
        memory = [one.memory.total for one in each.run.programs if one.memory is not None]
        hours = None if each.seconds is None else each.seconds / 3600
        rows.append(
            [
                str(each.seeds),
                str(each.data_parallel),
                str(each.turns),
                _number(max(memory) / _MIB if memory else None),
                _number(hours),
                _number(None if hours is None else hours * target.count),
                "; ".join(each.run.problems),
            ]
        )
    columns = (
        "seeds at once", "data_parallel", "runs in turn", "MiB a device", "hours", "chip-hours", "problem",
    )  # fmt: skip
    yield markdown(columns, rows)
    yield ""
    best = soonest(searched)
    if best is None:
        yield "None of them fits and has an estimate."
    else:
        yield f"Soonest: seeds={best.seeds} data_parallel={best.data_parallel}, {best.turns} in turn."


def _chip(target: Target) -> Iterator[str]:
    chip = target.chip
    peak = ", ".join(f"{value / 1e12:g} TFLOP/s in {dtype}" for dtype, value in chip.peak.items())
    memory = f"{chip.bytes / GIB:.2f} GiB"
    if chip.memory is not None and chip.usable < 1:
        memory += f" ({chip.usable:.0%} of {chip.memory:.2f} GiB, as JAX takes by default)"
    speed = "" if chip.bandwidth is None else f", {chip.bandwidth / 1e9:.0f} GB/s"
    clock = "" if chip.clock is None else f", {chip.clock / 1e9:.2f} GHz"
    yield f"{target.count} x {chip.title}: {', '.join([*([peak] if peak else []), memory])}{speed}{clock}."
    wanted = {"tpu": "libtpu", "gpu": "jax-cuda", "cpu": "jaxlib"}[chip.platform]
    shown = [
        f"{name} {version}"
        for name, version in versions().items()
        if name == "jax" or name.startswith(wanted)
    ]
    yield f"Compiled without the device by {', '.join(shown)}."


def _run(run: RunPlan) -> Iterator[str]:
    layout = run.layout
    yield f"## {run.label}"
    yield ""
    yield (
        f"{run.seeds} seed{'s' if run.seeds > 1 else ''} on {layout.size} of {len(run.target.devices())} "
        f"devices: {layout.seed} share the seeds, {layout.data} the batch of a seed."
    )
    yield ""
    yield markdown(_COLUMNS, [_row(each, run) for each in run.programs])
    yield ""
    for each in run.programs:
        if each.name == "training step" and each.costs is not None:
            shares = ", ".join(f"{kind} {value:.2f}" for kind, value in each.costs.shares().items() if value)
            what = "cycles" if each.costs.estimated else "bytes"
            yield f"- {each.phase}: shares of the step's {what}: {shares}."
    for each in run.programs:
        if each.open_loops:
            yield (
                f"- {each.phase}, {each.name}: loops whose length depends on data, counted once: "
                f"{each.open_loops}."
            )
    yield from (f"- Does not fit or compile: {problem}." for problem in run.problems)
    fit = run.seeds_that_fit
    if fit is not None:
        yield f"- Seeds that fit, in proportion to {run.seeds}: {fit[0]}, by {fit[1]}."
    for phase in dict.fromkeys(each.phase for each in run.programs):
        yield f"- {phase}: {_hours(run.seconds(phase), run.estimated)}."
    whole = run.seconds()
    yield f"- Whole run: {_hours(whole, run.estimated)}{_chip_hours(whole, run.target)}."


def _row(each: Compiled, run: RunPlan) -> list[str]:
    chip = run.target.chip
    estimate, roofline = each.estimate(chip), each.roofline(chip)
    costs, memory = each.costs, each.memory
    return [
        each.phase,
        each.name,
        str(each.calls),
        _number(sum(each.flops.values()) / 1e9),
        _number(None if costs is None else costs.bytes / 1e6),
        _number(costs.cycles / 1e6 if costs is not None and costs.estimated else None),
        _number(None if estimate is None else estimate * 1e3),
        _number(None if roofline is None else roofline * 1e3),
        _number(None if memory is None else memory.total / _MIB),
        f"{each.seconds_to_compile:.0f}",
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _hours(seconds: float | None, estimated: bool) -> str:
    if seconds is None:
        return "no estimate"
    return f"{'' if estimated else 'at least '}{_number(seconds / 3600)} hours"


def _chip_hours(seconds: float | None, target: Target) -> str:
    return "" if seconds is None else f", {_number(seconds / 3600 * target.count)} chip-hours"


def _total(target: Target, runs: Sequence[RunPlan]) -> Iterator[str]:
    seconds = [run.seconds() for run in runs]
    known = [each for each in seconds if each is not None]
    total = sum(known) if len(known) == len(runs) else None
    hours = _hours(total, all(run.estimated for run in runs))
    yield f"All {len(runs)} runs in turn: {hours}{_chip_hours(total, target)}."
