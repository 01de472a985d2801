import math
import re

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from covlab.report import curves as figures

RNG = np.random.default_rng(7)
STEPS = np.array([0, 24, 48, 96, 192])
KL = RNG.uniform(0.3, 0.9, (4, 5))
COV = {n: RNG.uniform(0, 1, (4, 5)) for n in (2, 4, 5.7)}
PASS = {n: RNG.uniform(0.8, 1, (4, 5)) for n in (4, 8, 12)}
CHOSEN = {"tournament": np.array([2, 1, 0, 4]), "min KL": np.argmin(KL, axis=1)}


def labels_of(fig: Figure) -> list[str]:
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def lines_of(axis: Axes) -> dict[str, np.ndarray]:
    return {line.get_label(): np.asarray(line.get_xydata()) for line in axis.lines}


def test_learning_curves_draw_medians_bands_and_theory():
    fig = figures.learning_curves(STEPS, KL, COV, theory={"floor": 0.325}, title="A title")
    left, apart, right = fig.axes
    assert left.get_xlabel() == apart.get_xlabel() == "fine-tuning step"
    assert left.get_ylabel() == "KL (nats)"
    assert right.get_ylabel() == "coverage profile Cov$_N$, N = 2"
    assert apart.get_ylabel() == "coverage profile Cov$_N$, N = 4, 5.7"
    assert left.get_title(loc="left") == "A title"
    drawn = lines_of(left)
    np.testing.assert_array_equal(drawn["KL"], np.column_stack([STEPS, np.median(KL, axis=0)]))
    np.testing.assert_array_equal(drawn["floor"], np.column_stack([STEPS, np.full(5, 0.325)]))
    assert list(lines_of(right)) == ["Cov$_{2}$"]
    covs = lines_of(right) | lines_of(apart)
    assert list(covs) == ["Cov$_{2}$", "Cov$_{4}$", "Cov$_{5.7}$"]
    for line, values in zip(covs.values(), COV.values(), strict=True):
        np.testing.assert_array_equal(line[:, 1], np.median(values, axis=0))
    assert labels_of(fig) == ["KL", "floor", *covs]
    band = left.collections[0].get_paths()[0].vertices
    assert {*KL.min(axis=0), *KL.max(axis=0)} <= set(band[:, 1])


def test_coverage_at_large_n_has_an_axis_of_its_own():
    high, low = np.full((4, 5), 0.9), np.full((4, 5), 0.03)
    _, apart, right = figures.learning_curves(STEPS, KL, {2: high, 3: low}).axes
    assert right.get_ylim()[1] > 0.9 > 0.1 > apart.get_ylim()[1]
    assert len(figures.learning_curves(STEPS, KL, {4: low}).axes) == 2
    assert len(figures.learning_curves(STEPS, KL, {4: low}, apart=5).axes) == 2


def test_learning_curves_take_quantile_bands_and_single_seeds():
    fig = figures.learning_curves(STEPS, KL, {2: COV[2]}, band=(0.25, 0.75), per_seed=True)
    left, right = fig.axes
    assert len(left.lines) == len(right.lines) == 4 + 1
    for line, row in zip(left.lines, KL, strict=False):
        np.testing.assert_array_equal(line.get_ydata(), row)
    band = left.collections[0].get_paths()[0].vertices
    assert set(np.quantile(KL, 0.25, axis=0)) <= set(band[:, 1])
    assert not set(KL.max(axis=0)) & set(band[:, 1])


def test_one_seed_has_no_band():
    fig = figures.learning_curves(STEPS, KL[:1], {2: COV[2][:1]})
    assert [len(axis.collections) for axis in fig.axes] == [0, 0]


def test_scatter_shows_every_checkpoint_and_the_chosen_ones():
    fig = figures.scatter_pass_at_n(STEPS, PASS, COV, KL, CHOSEN)
    panels = fig.axes[:6]
    for column, (n, m) in enumerate(zip(PASS, COV, strict=True)):
        for axis, y, label in (
            (panels[column], COV[m], f"Cov$_{{{m:g}}}$"),
            (panels[column + 3], KL, "KL (nats)"),
        ):
            points, *marks = axis.collections
            np.testing.assert_array_equal(points.get_offsets(), np.column_stack([PASS[n].ravel(), y.ravel()]))
            np.testing.assert_array_equal(points.get_array(), np.tile(STEPS, 4))
            assert axis.get_ylabel() == label
            for mark, index in zip(marks, CHOSEN.values(), strict=True):
                rows = np.arange(4)
                expected = np.column_stack([PASS[n][rows, index], y[rows, index]])
                np.testing.assert_array_equal(mark.get_offsets(), expected)
                assert mark.get_sizes()[0] > 2 * points.get_sizes()[0]
        assert panels[column + 3].get_xlabel() == f"Pass@{n}"
    assert fig.axes[6].get_ylabel() == "training step"
    assert labels_of(fig) == ["tournament", "min KL"]


def test_scatter_marks_a_single_seed_by_a_plain_index():
    one = {name: {n: values[:1] for n, values in group.items()} for name, group in (("p", PASS), ("c", COV))}
    fig = figures.scatter_pass_at_n(STEPS, one["p"], one["c"], KL[:1], {"rule": 3})
    np.testing.assert_array_equal(fig.axes[0].collections[1].get_offsets(), [[PASS[4][0, 3], COV[2][0, 3]]])


def test_log_ratio_histogram_conserves_mass_and_marks_ln_n():
    values = np.array([0.0, 0.5, 1.0, np.inf])
    weights = np.array([1.0, 1.0, 1.0, 2.0])
    fig = figures.log_ratio_histogram({"last": values}, ns=(2, 4), weights=weights, bins=4)
    (axis,) = fig.axes
    mass, edges, _ = axis.patches[0].get_data()
    np.testing.assert_allclose(mass, [0.2, 0, 0.2, 0.2])
    np.testing.assert_allclose(edges, [0, 0.25, 0.5, 0.75, 1.0])
    assert [line.get_xdata()[0] for line in axis.lines] == pytest.approx([math.log(2), math.log(4)])
    assert [text.get_text() for text in axis.texts] == ["ln 2", "ln 4"]
    assert labels_of(fig) == ["last (40.00% not finite)"]
    assert "nats" in axis.get_xlabel()


def long_frame() -> dict[str, list]:
    rows = [(step, seed) for step in (0, 10, 20) for seed in (5, 9, 7)]
    return {
        "global_step": [step for step, _ in rows],
        "seed": [seed for _, seed in rows],
        "phase": ["main"] * 9,
        "eval/kl": [float(step + seed) for step, seed in rows],
        "eval/cov/2": [0.1 * seed for _, seed in rows],
        "eval/cov/5.7": [0.01 * seed for _, seed in rows],
        "eval/text": ["x"] * 9,
        "eval/never": [None] * 9,
        "train/loss": [None if step == 10 else seed - step for step, seed in rows],
    }


@pytest.mark.parametrize("kind", [dict, pd.DataFrame])
def test_curves_group_by_last_number_and_draw_medians(kind):
    fig = figures.curves(kind(long_frame()))
    panels = {axis.get_title(loc="left"): lines_of(axis) for axis in fig.axes}
    assert list(panels) == [f"{name}, lower is better" for name in ("eval/kl", "eval/cov", "train/loss")]
    np.testing.assert_array_equal(panels["eval/kl, lower is better"]["kl"], [[0, 7], [10, 17], [20, 27]])
    assert list(panels["eval/cov, lower is better"]) == ["Cov_2", "Cov_5.7"]
    np.testing.assert_allclose(panels["eval/cov, lower is better"]["Cov_2"][:, 1], [0.7] * 3)
    np.testing.assert_array_equal(panels["train/loss, lower is better"]["loss"], [[0, 7], [20, -13]])
    assert [axis.get_xlabel() for axis in fig.axes] == ["global step"] * 3


def test_a_line_alone_has_its_number():
    frame = {"global_step": [0, 1], "seed": [0, 0], "eval/cover/0.5": [0.1, 0.4], "eval/kl": [2.0, 1.0]}
    cover, divergence = figures.curves(frame).axes
    assert [text.get_text() for text in cover.get_legend().get_texts()] == ["Cover@0.5"]
    assert divergence.get_legend() is None


def test_curves_draw_what_is_asked_for_against_another_column():
    frame = long_frame()
    frame["step"] = frame["global_step"]
    fig = figures.curves(frame, ["train/loss", "eval/kl"], x="step", title="Two")
    assert [axis.get_title(loc="left") for axis in fig.axes] == [
        "train/loss, lower is better", "eval/kl, lower is better",
    ]  # fmt: skip
    assert fig.get_suptitle() == "Two"


@pytest.mark.parametrize(
    ("call", "fragment"),
    [
        (lambda: figures.learning_curves(STEPS, KL[:, :4], COV), "kl: shape (4, 4); valid: (seeds, 5)"),
        (lambda: figures.learning_curves(STEPS, KL[0], COV), "kl: shape (5,); valid: (seeds, 5)"),
        (lambda: figures.learning_curves(STEPS, KL, {2: KL[:, 1:]}), "cov[2]: shape (4, 4)"),
        (lambda: figures.learning_curves(STEPS, KL, COV, band="all"), "band: 'all'"),
        (lambda: figures.learning_curves(STEPS, KL, COV, band=(0.9, 0.1)), "band: (0.9, 0.1)"),
        (lambda: figures.scatter_pass_at_n(STEPS, PASS, {2: KL}, KL, {}), "cov: 1 entries"),
        (
            lambda: figures.scatter_pass_at_n(STEPS, {4: KL[:2]}, {2: KL}, KL, {}),
            "pass_at_n[4]: shape (2, 5)",
        ),
        (
            lambda: figures.scatter_pass_at_n(STEPS, PASS, COV, KL, {"a": 1}),
            "chosen: 'a' is [1]; valid: 4 indices",
        ),
        (lambda: figures.scatter_pass_at_n(STEPS, PASS, COV, KL, {"a": [0, 1, 2, 5]}), "chosen: 'a' is"),
        (
            lambda: figures.scatter_pass_at_n(STEPS, PASS, COV, KL, dict.fromkeys("abcdef", 0)),
            "chosen: 6 rules",
        ),
        (lambda: figures.log_ratio_histogram({"a": np.array([np.inf])}), "log_ratio: no finite value"),
        (lambda: figures.log_ratio_histogram({"a": np.zeros(3)}, weights=np.ones(2)), "weights: shape (2,)"),
        (lambda: figures.curves(long_frame(), ["eval/nothing"]), "frame: no column 'eval/nothing'"),
        (lambda: figures.curves(long_frame(), ["eval/text"]), "names: no metric with a finite number"),
    ],
)
def test_bad_input_is_named_in_one_line(call, fragment):
    with pytest.raises(ValueError, match=re.escape(fragment)) as caught:
        call()
    assert str(caught.value).startswith(fragment)
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_saved_files_have_the_stated_size_and_equal_bytes(tmp_path):
    def drawn() -> Figure:
        return figures.learning_curves(STEPS, KL, COV)

    png, svg = figures.save(drawn(), tmp_path / "new" / "figure1", svg=True)
    assert (png.name, svg.name) == ("figure1.png", "figure1.svg")
    image = matplotlib.image.imread(png)
    assert image.shape[:2] == (int(150 * 4.6), 150 * 11)
    assert image.std() > 0.01
    again = figures.save(drawn(), tmp_path / "again.png", svg=True)
    assert [path.read_bytes() for path in again] == [png.read_bytes(), svg.read_bytes()]


def test_a_name_with_a_dot_keeps_it(tmp_path):
    assert figures.save(Figure(), tmp_path / "cov_5.7") == [tmp_path / "cov_5.7.png"]


def test_drawing_leaves_the_global_style_alone():
    before = dict(mpl.rcParams)
    figures.curves(long_frame())
    assert dict(mpl.rcParams) == before
