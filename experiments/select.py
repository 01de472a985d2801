"""Selecting a checkpoint by tournaments and competing rules, on a run, on evaluations of language models, or
on a file of any origin.

    python -m experiments.select run=runs/train/demo n=2 tie_break=middle
    python -m experiments.select evaluations/step-* tasks=gsm8k
    python -m experiments.select file=log_probs.npz

An argument without `key=` is an evaluation of a checkpoint, a file or folder that another program wrote:
docs/real_models.md has the formats. From log-probabilities of held-out responses follow the tournament's
table and a recommendation, with the number of resamples of the examples in which another checkpoint would
have been taken; from counts of right responses Pass@N, pass^N, Cover@tau, the coverage ratio and the examples
lost and gained. The answer is also written to `selection.json` and figures beside it.

`file` holds natural logarithms of the probabilities that several models (checkpoints, in the order of
training) give to whole held-out responses: entry (m, i) is ln pi_m(y_i|x_i), the sum over the tokens of
response y_i to prompt x_i. It is minus the summed token loss, not the mean token loss. A number above 0 is
refused, and one line warns if nearly all models tie and the numbers look like means. The file is either

*   an `.npz` file (`numpy.savez`) with

    `log_probs`          (models, examples), required
    `weights`            (examples,), weights of the examples; default: equal weights
    `names`              (models,), texts or numbers such as steps; default: 0, 1, 2, ...
    `log_pi`             (examples,), ln of the true probability, if known: adds KL, coverage, their oracles
    `correct`            (examples,), 1 where y_i is THE correct response to x_i, else 0: adds Pass@N, exact
                         with one correct response per prompt, a lower bound with several
    `sample_log_probs`   (models, models, examples, samples): entry (m, k, i, s) is ln pi_k(y|x_i) of the s-th
                         response y that model m drew for x_i: adds the offset tournament

*   or a `.csv` file: a header line, then one line per model: name, then one log-probability per example.
    `-inf` is a valid entry. The header names the examples with any texts.

The table has for every rule, N and tie-break the chosen checkpoint, the number of ties, and the known metrics
of the chosen checkpoint: ce (held-out cross-entropy), kl, cov/<N> (Cov_N), pass/<N> (Pass@N). Ties are
common, so N and tie-break have to be fixed in advance. The table is also written as JSON, to `selection.json`
in the run directory or to `<file>.selection.json`.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from covlab.claims.matrices import last_phase
from covlab.claims.selection import (
    Row,
    RunMatrices,
    median_table,
    run_matrices,
    run_tables,
    selection_table,
)
from covlab.evaluated.answer import sections_of, show, write_figures
from covlab.evaluated.counts import TAUS
from covlab.evaluated.log_probs import NS
from covlab.launch.log_prob_file import read_file, warning_of_means
from covlab.launch.run_arguments import command_on_runs, many
from covlab.readers.base import Wanted
from covlab.readers.joining import read_sources
from covlab.report import curves as figures
from covlab.report.plotting import save
from covlab.report.tables import print_table
from metrics import TIE_BREAKS, coverage_profile, kl, log_density_ratio, pass_at_n, weighted_mean
from tasks.checks import real, whole
from tracking import LoadError, read_config
from tracking.atomic import atomic_write

FILE_NS = (2.0, 4.0, 8.0)
FILE_PASS_NS = (1, 4, 8, 12)
SHOWN_SEEDS = 4
_OPTIONS = (
    "a", "examples", "file", "filter", "format", "hydra", "later", "n", "out", "pair", "pass_ns", "phase",
    "resamples", "rules", "run", "score", "solved", "sources", "tasks", "taus", "tie_break", "verifier",
)  # fmt: skip


def file_table(
    arrays: Mapping[str, np.ndarray],
    ns: Sequence[float] = FILE_NS,
    tie_breaks: Sequence[Any] = TIE_BREAKS,
    pass_ns: Sequence[int] = FILE_PASS_NS,
    rules: Sequence[str] | None = None,
    a: float = 0.25,
) -> list[Row]:
    """`selection_table` of a file's arrays. ValueError as in `selection_table`."""
    log_probs: Float[np.ndarray, "models examples"] = np.asarray(arrays["log_probs"], np.float64)
    weights = arrays.get("weights")
    divergence = profile = passes = None
    if "log_pi" in arrays:
        ratio = log_density_ratio(arrays["log_pi"], log_probs)
        divergence = kl(ratio, weights)
        tails = coverage_profile(ratio, ns, weights)
        profile = {float(n): tails[:, i] for i, n in enumerate(ns)}
    if "correct" in arrays:
        pass_probs = pass_at_n(np.where(arrays["correct"] > 0, log_probs, -np.inf), pass_ns)
        passes = {int(n): weighted_mean(pass_probs[..., i], weights) for i, n in enumerate(pass_ns)}
    names = arrays["names"].tolist() if "names" in arrays else list(range(len(log_probs)))
    samples = arrays.get("sample_log_probs")
    return selection_table(
        log_probs, weights, names, ns, tie_breaks, divergence, profile, passes, rules, samples, a
    )


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """Print the table, with the notes of the rules below it."""
    facts = [key for key in rows[0] if key in ("ce", "kl") or key.startswith(("cov/", "pass/"))]
    cells = [
        [
            row["rule"],
            "" if row["n"] is None else row["n"],
            row["tie_break"] or "",
            row["step"],
            row["num_tied"],
            *(row[key] for key in facts),
        ]
        for row in rows
    ]
    print_table(title, ["rule", "N", "tie-break", "chosen", "tied", *facts], cells)
    for note in sorted({f"{row['rule']}: {row['note']}" for row in rows if row["note"]}):
        print(note)


def draw(path: Path, matrices: RunMatrices, tables: Mapping[int, Sequence[Row]], ns: Sequence[float]) -> Path:
    """`figures/selection.png`: every checkpoint, and the choices of the tournament (first N and tie-break),
    the least cross-entropy and the last step.
    """
    choices = {}
    for rule, label in (
        ("simple_tournament", f"tournament, N = {ns[0]:g}"),
        ("min_cross_entropy", "least cross-entropy"),
        ("last", "last"),
    ):
        picks = [
            next((row["index"] for row in table if row["rule"] == rule), None) for table in tables.values()
        ]
        if None not in picks:
            choices[label] = np.array(picks)
    pairs = ((4, 2.0), (8, 4.0), (12, 5.7))
    passes = matrices.pass_at_n([n for n, _ in pairs])
    target = path / "figures" / "selection.png"
    fig = figures.scatter_pass_at_n(
        np.array(matrices.steps),
        passes or {},
        matrices.coverage([n for _, n in pairs]),
        matrices.kl(),
        choices,
    )
    save(fig, target)
    return target


class Selected(NamedTuple):
    """The choices on a run: tables by seed, their medians, the N, the evaluated checkpoints (`matrices`), and
    the JSON file for the choices."""

    path: Path
    matrices: RunMatrices
    tables: dict[int, list[Row]]
    medians: list[Row]
    ns: list[Any]
    file: Path


def selected(config: DictConfig) -> Selected:
    """The choices on the run that `config` (conf/select.yaml) names; nothing is written.

    Raises:
        ValueError: an invalid run, phase, rule, N or tie-break; one line.
    """
    _check_numbers(config)
    path, phase = Path(config.run), last_phase(config.run, config.phase)
    settings = _evaluation(path, phase)
    ns, pass_ns = many(config.n) or settings["coverage_ns"], many(config.pass_ns) or settings["pass_ns"]
    matrices = run_matrices(path, phase)
    tables = run_tables(matrices, ns, _tie_breaks(config), pass_ns, _rules(config))
    medians = median_table(list(tables.values()))
    return Selected(path, matrices, tables, medians, ns, Path(config.out or path / "selection.json"))


def write_selection(choices: Selected) -> Path | None:
    """Write the tables as JSON, and `figures/selection.png` if the task enumerates its correct responses;
    returns the figure."""
    content = {
        "phase": choices.matrices.phase,
        "seeds": {str(seed): rows for seed, rows in choices.tables.items()},
        "median": choices.medians,
    }
    _write(choices.file, content)
    if choices.matrices.log_prob_correct is None:
        return None
    return draw(choices.path, choices.matrices, choices.tables, choices.ns)


def select(config: DictConfig, sources: Sequence[str] = (), arguments: Sequence[str] = ()) -> int:
    """Select, print and write."""
    asked = [*map(str, many(config.sources)), *sources]
    if (config.run is not None) + (config.file is not None) + bool(asked) != 1:
        raise ValueError(
            "run, file: exactly one of them is needed: run=<run directory> or file=<.npz or .csv>, or "
            "evaluations "
            "of checkpoints, as in covlab select evaluations/step-*"
        )
    if asked:
        return _select_in_evaluations(config, asked)
    if config.file is not None:
        return _select_in_file(config)
    choices = selected(config)
    matrices, tables = choices.matrices, choices.tables
    for seed in matrices.diverged:
        print(f"seed {seed} diverged and is left out")
    # With several seeds only the median is printed; the file has all tables.
    for seed, rows in tables.items() if len(tables) <= SHOWN_SEEDS else ():
        title = f"{choices.path}, phase {matrices.phase}, seed {seed}, {len(matrices.steps)} checkpoints"
        print_rows(title, rows)
    if len(tables) > 1:
        print_rows(f"Median over {len(tables)} seeds", choices.medians)
    figure = write_selection(choices)
    print(f"\n{choices.file}")
    if figure is not None:
        print(figure)
    return 0


def _select_in_file(config: DictConfig) -> int:
    _check_numbers(config)
    arrays = read_file(config.file)
    ns, pass_ns = many(config.n) or FILE_NS, many(config.pass_ns) or FILE_PASS_NS
    rows = file_table(arrays, ns, _tie_breaks(config), pass_ns, _rules(config), config.a)
    print_rows(str(config.file), rows)
    ties = [row["num_tied"] for row in rows if row["rule"] == "simple_tournament"]
    if warning := warning_of_means(np.asarray(arrays["log_probs"], np.float64), ties):
        print(f"warning: {config.file}: {warning}", file=sys.stderr)
    target = Path(config.out or f"{config.file}.selection.json")
    _write(target, {"file": str(config.file), "table": rows})
    print(f"\n{target}")
    return 0


def _select_in_evaluations(config: DictConfig, sources: Sequence[str]) -> int:
    _check_numbers(config)
    if config.examples not in ("all", "common"):
        raise ValueError(f"examples: {config.examples!r}; valid: all, common")
    texts = {
        key: None if config[key] is None else str(config[key])
        for key in ("tasks", "filter", "score", "verifier")
    }
    wanted = Wanted(**texts, solved=None if config.solved is None else real("solved", config.solved))
    joined = read_sources(sources, wanted, config.format, config.examples)
    ns, pair = [float(n) for n in many(config.n)] or NS, many(config.pair) or None
    sections = sections_of(
        joined,
        ns,
        _tie_breaks(config),
        _rules(config),
        many(config.pass_ns) or None,
        many(config.taus) or TAUS,
        None if pair is None else [str(name) for name in pair],
        config.later,
        config.resamples,
    )
    show(sections, joined.notes, print_rows)
    target = Path(config.out or "selection.json")
    content = {name: section.content for name, section in sections.items()}
    _write(target, {"sources": list(sources), "notes": list(joined.notes), **content})
    for path in (target, *write_figures(sections, target)):
        print(f"\n{path}" if path == target else path)
    return 0


def _check_numbers(config: DictConfig) -> None:
    for n in many(config.n):
        real("n", n, least=1)
    for n in many(config.pass_ns):
        whole("pass_ns", n, 1)
    for tau in many(config.taus):
        real("taus", tau, above=0, most=1)
    whole("resamples", config.resamples, 1)
    real("a", config.a, least=0)


def _rules(config: DictConfig) -> list[Any] | None:
    return None if config.rules is None else many(config.rules)


def _tie_breaks(config: DictConfig) -> Sequence[Any]:
    return TIE_BREAKS if config.tie_break == "all" else tuple(many(config.tie_break))


def _evaluation(path: Path, phase: str) -> dict[str, Any]:
    """The evaluation settings of a phase: the run's settings, replaced by the phase's."""
    config = read_config(path)
    return dict(config["evaluation"]) | dict(
        ((config["phases"] or {}).get(phase) or {}).get("evaluation") or {}
    )


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Write strict JSON; null stands for NaN and infinities."""
    try:
        atomic_write(path, json.dumps(_strict(content), indent=1, allow_nan=False).encode() + b"\n")
    except OSError as error:
        raise LoadError(f"{path}: {error.strerror}: choose out=<a file that can be written>") from None


def _strict(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


main = command_on_runs("select", _OPTIONS, select)

if __name__ == "__main__":
    main()
