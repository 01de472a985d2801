"""Primitives of the figures: style, lines over seeds, marks, outlines, legends, saving.

Colours are safe for colour-blind readers: Okabe and Ito's for unordered categories, viridis without its light
yellow for ordered ones.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Int, Num, Shaped
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure

from metrics import Interval

Band = str | tuple[float, float]

INK, BLUE, ORANGE, GREEN, RED, PURPLE = "#222222", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
DASHED = (0, (4, 3))
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": "#888888",
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.9,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "svg.hashsalt": "covlab",
}
_MARKS = (("*", RED, 210), ("D", BLUE, 65), ("s", ORANGE, 65), ("^", PURPLE, 90), ("P", INK, 90))


class ShownFigure(Figure):
    """A figure that a notebook shows, also where pyplot, which would see to that, is not imported."""

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=100)
        return data.getvalue()


def new_figure(
    rows: int, columns: int, size: tuple[float, float], **subplots: Any
) -> tuple[Figure, np.ndarray]:
    """An empty figure with a grid of axes, always of shape (rows, columns); the size is in inches."""
    fig = ShownFigure(figsize=size, layout="constrained")
    FigureCanvasAgg(fig)
    return fig, fig.subplots(rows, columns, squeeze=False, **subplots)


def save(fig: Figure, path: str | Path, svg: bool = False) -> list[Path]:
    """Write the figure as PNG at 150 dots per inch, and as SVG if `svg`; returns the files' paths.

    Equal figures give equal bytes: no date and no program name is stored.
    """
    path = Path(path)
    png = path if path.suffix == ".png" else path.with_name(f"{path.name}.png")
    png.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(png, dpi=150, metadata={"Software": None})
    if not svg:
        return [png]
    with mpl.rc_context(STYLE):
        fig.savefig(png.with_suffix(".svg"), metadata={"Date": None, "Creator": None})
    return [png, png.with_suffix(".svg")]


class Drawing(NamedTuple):
    """A figure of a report; `name` is its file name without the suffix."""

    name: str
    caption: str
    figure: Figure


def save_all(folder: Path, made: Iterable[tuple[str, str, Figure]]) -> list[tuple[str, Path]]:
    """Write each (name, caption, figure) to <folder>/<name>.png; (caption, file) in the same order."""
    return [(caption, save(figure, folder / f"{name}.png")[0]) for name, caption, figure in made]


def log_ticks(axis: Axes, x: Iterable[float]) -> None:
    """Ticks at the measured points alone, on a logarithmic axis."""
    axis.set_xscale("log")
    axis.set_xticks(list(x), [f"{each:g}" for each in x])
    axis.minorticks_off()


def viridis() -> Colormap:
    """Viridis from its darkest colour to a green that still stands out on white."""
    return ListedColormap(mpl.colormaps["viridis"](np.linspace(0, 0.88, 256)), name="viridis_cut")


def ordered_colours(count: int) -> list[Any]:
    """`count` colours for ordered categories, from dark to light."""
    return [viridis()(position) for position in np.linspace(0.08, 1, count)]


def seeds_by_checkpoints(
    name: str, values: Shaped[np.ndarray, "..."], shape: Sequence[int | None] = (None, None)
) -> Float[np.ndarray, "seeds checkpoints"]:
    """The values as floats of shape (seeds, checkpoints); None in `shape` means any length.

    Raises:
        ValueError: another shape.
    """
    array = np.asarray(values, dtype=float)
    fits = array.ndim == 2 and all(want in (None, got) for want, got in zip(shape, array.shape, strict=True))
    if not fits or array.size == 0:
        wanted = ", ".join(
            word if n is None else str(n) for word, n in zip(("seeds", "checkpoints"), shape, strict=True)
        )
        raise ValueError(f"{name}: shape {array.shape}; valid: ({wanted}), not empty")
    return array


def line_over_seeds(
    axis: Axes,
    steps: Num[np.ndarray, "checkpoints"],
    values: Float[np.ndarray, "seeds checkpoints"],
    colour: Any,
    label: str,
    band: Band = "range",
    per_seed: bool = False,
    linestyle: str = "-",
) -> None:
    """Median over the seeds as a line, with a band: the whole range, or quantiles (low, high).

    Raises:
        ValueError: a band that is neither `range` nor two ordered quantiles.
    """
    quantiles = (0.0, 1.0) if band == "range" else band
    if isinstance(quantiles, str) or len(quantiles) != 2 or not 0 <= quantiles[0] < quantiles[1] <= 1:
        raise ValueError(f"band: {band!r}; valid: 'range' or two quantiles such as (0.1, 0.9)")
    low, median, high = np.nanquantile(values, (quantiles[0], 0.5, quantiles[1]), axis=0)
    if len(values) > 1:
        axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
    if per_seed:
        axis.plot(steps, np.transpose(values), color=colour, linewidth=0.6, alpha=0.5)
    # A run that has just begun has one point, which makes no line.
    marker = "o" if len(median) == 1 else None
    axis.plot(steps, median, linestyle, color=colour, label=label, marker=marker)


def mark_chosen(
    axis: Axes,
    x: Float[np.ndarray, "seeds checkpoints"],
    y: Float[np.ndarray, "seeds checkpoints"],
    chosen: Mapping[str, Int[np.ndarray, "seeds"] | int],
) -> None:
    """Large markers at the checkpoint that each rule chose, per seed.

    Raises:
        ValueError: more rules than markers, a mismatched number of seeds, or an index that no checkpoint has.
    """
    if len(chosen) > len(_MARKS):
        raise ValueError(f"chosen: {len(chosen)} rules; valid: at most {len(_MARKS)} in one figure")
    for (name, index), (marker, colour, size) in zip(chosen.items(), _MARKS, strict=False):
        column = np.atleast_1d(np.asarray(index, dtype=int))
        if column.shape != (len(x),) or column.min() < 0 or column.max() >= x.shape[1]:
            raise ValueError(
                f"chosen: {name!r} is {column.tolist()}; valid: {len(x)} indices from 0 to {x.shape[1] - 1}"
            )
        row = np.arange(len(x))
        axis.scatter(
            x[row, column], y[row, column], s=size, marker=marker, color=colour, edgecolors="white",
            linewidths=1.0, zorder=4, label=name,
        )  # fmt: skip


def outlines(
    axis: Axes,
    name: str,
    groups: Mapping[str, Float[np.ndarray, "examples"]],
    weights: Float[np.ndarray, "examples"] | None,
    bins: int,
) -> None:
    """One histogram outline per group on common bins; each group has mass 1.

    A group's label states the share of values that are not finite.

    Raises:
        ValueError: nothing finite to draw, or weights that do not match a group's length.
    """
    finite = {group: values[np.isfinite(values)] for group, values in groups.items()}
    if not any(len(values) for values in finite.values()):
        raise ValueError(f"{name}: no finite value; valid: at least one finite number of nats")
    edges = np.histogram_bin_edges(np.concatenate(list(finite.values())), bins=bins)
    palette = (BLUE, RED, GREEN, PURPLE, ORANGE)
    for index, (group, values) in enumerate(groups.items()):
        share = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
        if share.shape != values.shape:
            raise ValueError(
                f"weights: shape {share.shape}; valid: {values.shape}, one an example of {group!r}"
            )
        share = share / share.sum()
        drawn = np.isfinite(values)
        mass, _ = np.histogram(values[drawn], bins=edges, weights=share[drawn])
        beyond = float(share[~drawn].sum())
        label = f"{group} ({beyond:.2%} not finite)" if beyond > 0 else group
        colour = palette[index % len(palette)]
        axis.stairs(mass, edges, color=colour, linewidth=1.8, label=label)
        axis.stairs(mass, edges, color=colour, alpha=0.12, fill=True)


def error_bars(*ends: Interval) -> Float[np.ndarray, "2 intervals"]:
    """Lengths of the intervals below and above their estimates, as `Axes.errorbar` takes them."""
    return np.array([[max(e.estimate - e.low, 0), max(e.high - e.estimate, 0)] for e in ends]).T


def legend_below(fig: Figure, axes: Iterable[Axes]) -> None:
    """One legend for all the axes, under the figure, where it cannot cover data."""
    entries = [axis.get_legend_handles_labels() for axis in axes]
    handles = [handle for pair in entries for handle in pair[0]]
    labels = [label for pair in entries for label in pair[1]]
    if handles:
        spacing = {"handlelength": 1.6, "columnspacing": 1.3, "handletextpad": 0.5}
        # Inches of a column: a letter takes about 0.075, handle and spacing about 0.5.
        widest = 0.5 + 0.075 * max(len(label) for label in labels)
        columns = max(min(len(handles), 8, int(fig.get_figwidth() / widest)), 1)
        fig.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=9.5, **spacing)
