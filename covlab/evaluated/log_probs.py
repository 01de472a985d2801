"""The checkpoint to take by log-probabilities of held-out responses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from covlab.claims.selection import selection_table
from covlab.evaluated.section import Section, Table, bootstrap_content, generator, recommendation
from covlab.readers.joining import LogProbs
from covlab.report import plotting as draw
from metrics import TieBreak, name_of_n, tournament_matrices_of
from metrics.divergence import cross_entropy
from metrics.resampled import bootstrap_tournament

NS = (4.0, 2.0, 8.0)
"""N of the tournaments; the first makes the recommendation."""


def of_log_probs(
    table: LogProbs,
    ns: Sequence[float],
    tie_breaks: Sequence[TieBreak],
    rules: Sequence[str] | None,
    resamples: int,
) -> Section:
    """The simple tournament's tables at every N and the recommendation at the first N and tie-break.

    Raises:
        ValueError: as `selection_table`.
    """
    names, values = table.names, table.values
    matrices = tournament_matrices_of(values, ns)
    losses = cross_entropy(values, None)
    per_byte = bits_per_byte(table)
    scores = matrices.max(axis=2)
    rows = []
    for i, name in enumerate(names):
        rivals = [names[int(matrix[i].argmax())] if matrix[i].max() > 0 else "" for matrix in matrices]
        cells = [cell for score, rival in zip(scores[:, i], rivals, strict=True) for cell in (score, rival)]
        rows.append([name, losses[i], *([] if per_byte is None else [per_byte[i]]), *cells])
    heads = [head for n in ns for head in (f"score, N = {n:g}", "worst against")]
    columns = ["checkpoint", "nats/response", *([] if per_byte is None else ["bits/byte"]), *heads]
    title = f"Simple tournament over {values.shape[1]} examples: largest Cov_N of another, lower is better"
    chosen = bootstrap_tournament(values, ns[0], generator("tournament"), resamples, tie_breaks[0])
    rule = f"simple tournament, N = {ns[0]:g}, ties by {tie_breaks[0]}"
    content: dict[str, Any] = {
        "checkpoints": list(names),
        "examples": values.shape[1],
        "nats_per_response": losses.tolist(),
        "bits_per_byte": None if per_byte is None else per_byte.tolist(),
        "tournament": {name_of_n(n): matrix.tolist() for n, matrix in zip(ns, matrices, strict=True)},
        "table": selection_table(values, None, names, ns, tie_breaks, rules=rules),
        "recommendation": {"rule": rule, **bootstrap_content(names, chosen)},
    }
    sentences = [recommendation(names, chosen, rule)]
    if lost := int(np.isneginf(values).any(axis=1).sum()):
        sentences.insert(
            0, f"{lost} checkpoints give a response the probability 0: their cross-entropy is infinite."
        )
    figures = {"log_probs": figure(names, ns, matrices, losses, chosen.index)} if len(names) > 1 else {}
    return Section([Table(title, columns, rows)], sentences, content, figures)


def bits_per_byte(table: LogProbs) -> Float[np.ndarray, " checkpoints"] | None:
    """Bits per byte of each checkpoint, - sum ln p/(ln 2 sum bytes); None where the bytes are unknown.

    Comparable between tokenizers, as nats per response are and nats per token are not.
    """
    if table.num_bytes is None:
        return None
    return -table.values.sum(axis=1) / (math.log(2) * table.num_bytes.sum())


def figure(
    names: Sequence[str],
    ns: Sequence[float],
    matrices: Float[np.ndarray, "n chosen challenger"],
    losses: Float[np.ndarray, " checkpoints"],
    chosen: int,
) -> Figure:
    """The matrix Cov_N(challenger || chosen) at the first N, scores at every N and the loss by checkpoint."""
    with mpl.rc_context(draw.STYLE):
        fig, axes = draw.new_figure(1, 3, (14, 4.2))
        left, middle, right = axes[0]
        image = left.imshow(matrices[0], cmap=draw.viridis(), vmin=0)
        fig.colorbar(image, ax=left, shrink=0.8)
        left.grid(False)
        left.set(title=f"Cov_N, N = {ns[0]:g}", xlabel="challenger", ylabel="checkpoint")
        places = np.arange(len(names))
        ordered = sorted(range(len(ns)), key=lambda i: ns[i])
        for colour, i in zip(draw.ordered_colours(len(ns)), ordered, strict=True):
            middle.plot(
                places, matrices[i].max(axis=1), color=colour, marker="o", ms=3, label=f"N = {ns[i]:g}"
            )
        middle.set(title="tournament score", xlabel="checkpoint")
        right.plot(places, np.where(np.isfinite(losses), losses, np.nan), color=draw.INK, marker="o", ms=3)
        right.set(title="nats per response", xlabel="checkpoint")
        for axis in (middle, right):
            axis.axvline(chosen, color=draw.RED, linestyle=draw.DASHED, linewidth=1.2, label="recommended")
            axis.legend(fontsize=8.5)
        step = max(1, len(names) // 6)
        for axis in (left, middle, right):
            axis.set_xticks(places[::step], names[::step], rotation=30, ha="right", fontsize=7.5)
        left.set_yticks(places[::step], names[::step], fontsize=7.5)
    return fig
