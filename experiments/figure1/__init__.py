"""Figure 1 of the Coverage Principle (arXiv 2510.15020): cross-entropy improves while coverage gets worse.

    python -m experiments.figure1 scale=cpu|paper

A model is pre-trained on the uniform mixture of the graph classes G1, G2 and G3 and fine-tuned on
0.9 G1 + 0.1 G2. It cannot tell the classes apart, so that lowering the cross-entropy means following the
majority's rule: a shortcut that uncovers the minority. Trains over several seeds, draws both plots of the
figure, writes `verdict.json` and `report.html` into the run directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from covlab.claims.old_claim import (
    Began,
    Claim,
    exit_status,
    make_verdict,
    print_verdict,
    require_seeds,
    timing_facts,
    worked_seconds,
)
from covlab.claims.selection import median_table
from covlab.launch.build import Setup, build
from covlab.launch.cli import StopRequest, command
from covlab.launch.run_names import run_path
from covlab.launch.runs import train_run
from covlab.launch.runtime import configure
from covlab.report import curves as figures
from covlab.report.page import write_report
from covlab.report.plotting import save
from experiments.figure1.measure import (
    CLASS_BLIND_MIN_KL,
    COVERAGE_NS,
    PASS_NS,
    Measurements,
    checks,
    measure,
)
from metrics import TIE_BREAKS, name_of_n
from tasks.checks import whole

CLAIM = Claim(
    name="figure1",
    source="Coverage Principle, arXiv 2510.15020, section 1, Figure 1; appendix C.2",
    title="Figure 1: cross-entropy improves, coverage and Best-of-N get worse",
    introduction=(
        "A small transformer is pre-trained on paths through layered graphs that follow a parity rule "
        "(G1), oppose it (G2) or ignore it (G3), then fine-tuned on nine parts G1 and one part G2. Which "
        "class a prompt belongs to is decided by an XOR over half of its nodes, which the model cannot "
        "see, so the cheapest way to lower the cross-entropy is a shortcut: always follow the majority's "
        "rule.",
        "The coverage profile Cov_N = P[pi_D(y|x)/pi_hat(y|x) >= N] (lower is better) says which answers "
        "Best-of-N with about N samples will miss. As the shortcut is learned, cross-entropy and KL keep "
        "improving while coverage, and with it Pass@N, gets worse.",
    ),
)
PANELS = {4: 2.0, 8: 4.0, 12: 5.7}
"""The right plots' pairs: Pass@N against Cov_M, as the paper draws them."""


def draw(path: Path, found: Measurements) -> list[tuple[str, Path]]:
    """Draw the figures into `path`/figures; (caption, file) in the report's order."""
    steps = np.asarray(found.matrices.steps)
    marked = {"tournament": found.chosen, "min KL": found.lowest}
    log_ratio = found.matrices.log_pi - found.matrices.log_probs[0]
    moments = {
        "start": 0,
        "tournament's choice": int(found.chosen[0]),
        "end": len(steps) - 1,
    }
    first = found.matrices.seeds[0]
    auc = found.blindness[first]
    made = (
        (
            "curves",
            "Figure 1, left: KL (nats) and the coverage profile against the fine-tuning step; median and "
            "range over the seeds. KL "
            "keeps falling while coverage at large N first improves and then degrades. Dashed: the best "
            "class-blind KL, 0.325.",
            figures.learning_curves(steps, found.kl, found.cov, {"best class-blind KL": CLASS_BLIND_MIN_KL}),
        ),
        (
            "scatter",
            "Figure 1, right: every checkpoint as a point, Pass@N against coverage (top) and against KL "
            "(bottom), with the "
            "checkpoints that the tournament and the least KL pick for every seed.",
            figures.scatter_pass_at_n(
                steps,
                {n: found.passes[n] for n in PANELS},
                {m: found.cov[m] for m in PANELS.values()},
                found.kl,
                marked,
            ),
        ),
        (
            "class_blind",
            "Measured (KL, Pass@8) of every seed beside the closed form of a class-blind model with mass p "
            "on the majority's path.",
            figures.class_blind_comparison(found.kl, found.passes[8], 8, chosen=marked),
        ),
        (
            "log_odds",
            f"Seed {first}, end of fine-tuning: log-odds between the two rules' paths on fresh prompts of "
            f"each class. If the "
            "model could tell the classes apart, the histograms would differ and the AUC would leave 0.5.",
            figures.log_odds_by_class(found.log_odds, 1 - auc.estimate, (1 - auc.high, 1 - auc.low)),
        ),
        (
            "log_ratio",
            f"Seed {first}: distribution of ln(pi_D/pi_hat) at three checkpoints; Cov_N is the mass right "
            f"of ln N.",
            figures.log_ratio_histogram(
                {name: log_ratio[index] for name, index in moments.items()},
                (2, 4, 5.7),
                found.matrices.weights,
            ),
        ),
    )
    drawn = []
    for name, caption, figure in made:
        target = path / "figures" / f"{name}.png"
        save(figure, target)
        drawn.append((caption, target))
    return drawn


def report_tables(
    found: Measurements, n: float, tie_break: str
) -> list[tuple[str, list[str], list[list[Any]]]]:
    """The tables of the report: selection rules, the curve, and the class-blind closed form."""
    rows = median_table(list(found.tables.values()))
    selection = [
        [
            row["rule"],
            row["n"],
            row["tie_break"],
            row["step"],
            row["num_tied"],
            row["kl"],
            row["cov/2"],
            row["cov/4"],
        ]
        + [row[f"pass/{k}"] for k in PASS_NS]
        for row in rows
    ]
    shown = np.unique(np.linspace(0, len(found.matrices.steps) - 1, 13).astype(int))
    curve = [
        [found.matrices.steps[i], np.median(found.kl[:, i])]
        + [np.median(found.cov[m][:, i]) for m in COVERAGE_NS]
        + [np.median(found.passes[k][:, i]) for k in PASS_NS]
        for i in shown
    ]
    picks = np.arange(len(found.kl))
    blind = []
    for name, index, p in (
        ("min KL", found.lowest, 0.9),
        ("best Pass@8", found.passes[8].argmax(axis=1), 0.5),
    ):
        theory = [figures.class_blind_theory(np.array([p]), k) for k in PASS_NS]
        blind.append([name, f"p = {p}", np.mean(found.kl[picks, index]), float(theory[0][0][0])])
        for k, (_, value) in zip(PASS_NS, theory, strict=True):
            blind[-1] += [float(np.mean(found.passes[k][picks, index])), float(value[0])]
    return [
        (
            f"Every selection rule at every N and tie-break, median over the seeds. The verdict uses the "
            f"simple tournament with "
            f"N = {name_of_n(n)} and tie-break {tie_break}, fixed beforehand.",
            [
                "rule",
                "N",
                "tie-break",
                "step",
                "tied",
                "KL",
                "Cov_2",
                "Cov_4",
                *(f"Pass@{k}" for k in PASS_NS),
            ],
            selection,
        ),
        (
            "The fine-tuning run, median over the seeds.",
            ["step", "KL", *(f"Cov_{name_of_n(m)}" for m in COVERAGE_NS), *(f"Pass@{k}" for k in PASS_NS)],
            curve,
        ),
        (
            "Measured (mean over the seeds) beside the class-blind closed form, which puts no mass off the "
            "two rules' paths.",
            ["checkpoint", "closed form", "KL", "theory"]
            + [x for k in PASS_NS for x in (f"Pass@{k}", "theory")],
            blind,
        ),
    ]


def figure1(config: DictConfig) -> int:
    """Train (or continue, or reuse) the run, and judge it; exit status 0 whether or not the claim holds."""
    began = Began.now()
    configure(config.seeds if isinstance(config.seeds, int) else 1, config.devices, config.data_parallel)
    setup = build(config)
    _check(config, setup)
    path = run_path(config, HydraConfig.get().overrides.task)
    status = exit_status(train_run(config, path, StopRequest().install(), setup))
    if status is not None:
        return status
    n, tie_break = float(config.tournament.n), str(config.tournament.tie_break)
    found = measure(path, setup, n, tie_break, config.blindness_examples)
    timings = timing_facts(path)
    worked = worked_seconds(timings)
    verdict = make_verdict(
        CLAIM,
        config,
        began,
        worked,
        checks(found),
        found.matrices.seeds,
        _notes(found, worked),
    )
    verdict.write(path / "verdict.json")
    write_report(
        path / "report.html",
        CLAIM.title,
        verdict,
        draw(path, found),
        report_tables(found, n, tie_break),
        (path / "config.yaml").read_text(),
        timings,
        CLAIM.introduction,
    )
    print_verdict(verdict, path)
    return 0


def _notes(found: Measurements, trained: float) -> tuple[str, ...]:
    gap = []
    for kl, passed in zip(found.kl, found.passes[8], strict=True):
        p = np.linspace(0.5, 0.9, 2001)
        theory_kl, theory_pass = figures.class_blind_theory(p, 8)
        order = np.argsort(theory_kl)
        inside = (kl >= theory_kl.min()) & (kl <= theory_kl.max())
        gap += (np.interp(kl[inside], theory_kl[order], theory_pass[order]) - passed[inside]).tolist()
    spread = (
        f"At equal KL the measured Pass@8 lies {np.mean(gap):.3f} below the class-blind closed form on "
        f"average (from "
        f"{np.min(gap):+.3f} to {np.max(gap):+.3f}): the real model also leaves mass on mixed and invalid "
        f"paths."
        if gap
        else "No measured KL lies on the class-blind curve between p = 0.5 and p = 0.9."
    )
    diverged = found.matrices.diverged
    missed = [check.name for check in checks(found, whole_interval=True) if not check.passed]
    return (
        "Each target is also met by the whole 95 % interval over the seeds."
        if not missed
        else f"Not met by the whole 95 % interval over the seeds: {'; '.join(missed)}.",
        spread,
        f"Training and evaluation took {trained:.0f} s for all seeds together.",
        *((f"Seeds {', '.join(map(str, diverged))} diverged and are left out.",) if diverged else ()),
    )


def _check(config: DictConfig, setup: Setup) -> None:
    """Refuse, before anything is compiled, a configuration that the claim cannot be judged on."""
    require_seeds("figure1", setup.seeds)
    if [phase.name for phase in setup.phases] != ["pretrain", "finetune"]:
        raise ValueError(
            f"phases: {[phase.name for phase in setup.phases]}; figure1 needs pretrain, finetune"
        )
    if setup.phases[-1].task.groups != ("G1", "G2"):
        raise ValueError(
            f"phases.finetune.task.mixture: {setup.phases[-1].task.groups}; figure1 needs G1 and G2"
        )
    if setup.checkpoint.parameters == "none":
        raise ValueError("checkpoint.parameters: none; figure1 needs ends or evaluations")
    n, tie_break = config.tournament.n, config.tournament.tie_break
    if n not in COVERAGE_NS:
        raise ValueError(f"tournament.n: {n!r} is not one of {', '.join(map(name_of_n, COVERAGE_NS))}")
    if tie_break not in TIE_BREAKS:
        raise ValueError(f"tournament.tie_break: {tie_break!r} is not one of {', '.join(TIE_BREAKS)}")
    whole("blindness_examples", config.blindness_examples, 2)


main = command("figure1", figure1)
