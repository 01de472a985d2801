"""The state-tracking claim: its measurements on answers that are known, its runs, its command."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from omegaconf import DictConfig
from oracles.reports import assert_whole

from covlab.claims.arms import Arm
from covlab.claims.claim import Plan, Study
from covlab.claims.settings import field_checks, read
from covlab.launch.build import build
from covlab.launch.trained import open_run
from covlab.report.plotting import save_all
from covlab.report.verdict import Verdict
from experiments.state_tracking import runs
from experiments.state_tracking.checks import checks, notes
from experiments.state_tracking.figures import drawings, tables, uniform_coverage
from experiments.state_tracking.measure import CELLS, Measurements, Run, Settings, StateEvaluator, measure
from experiments.state_tracking.readers import Reader
from metrics.evaluators import make_held_out
from models import Flax
from tasks.group_word import GroupWord
from tracking import Progress


def small() -> Run:
    """Two seeds, strings of one, two, two and three elements."""
    lengths = np.array([1, 2, 2, 3])
    asked = np.arange(3) < lengths[:, None]
    probabilities = np.array(
        [
            [[0.9, 1, 1], [0.5, 0.5, 1], [0.9, 0.1, 1], [0.5, 0.4, 0.1]],
            [[0.4, 1, 1], [0.8, 0.5, 1], [0.9, 0.9, 1], [0.5, 0.5, 0.5]],
        ]
    )
    return Run(np.log(probabilities), (probabilities >= 0.5) & asked, lengths, -0.5)


def test_accuracy_and_coverage_by_hand() -> None:
    run = small()
    # Tokens after one element: four strings; after two or three: four tokens.
    assert run.accuracy((1, 1)).tolist() == [1, 0.75]
    assert run.accuracy((2, 3)).tolist() == [0.25, 1]
    assert run.accuracy((3, 9)).tolist() == [0, 1]
    assert run.whole((1, 2)).tolist() == [2 / 3, 2 / 3]
    assert run.whole((2, 3)).tolist() == [1 / 3, 1]
    # Probabilities of whole responses of two elements: .25 and .09, .4 and .81.
    assert run.coverage((2, 2), (1, 2, 4, 11, 12)).tolist() == [[1, 1, 1, 0.5, 0], [1, 0.5, 0, 0, 0]]
    assert run.coverage((3, 3), (8, 50)).tolist() == [[1, 1], [1, 0]]


def found(**changes: Any) -> Measurements:
    per_problem = {model: small() for model in (*CELLS, "lstm", "transformer")}
    made = {problem: dict(per_problem) for problem in ("parity", "s3")}
    ranges: Any = dict.fromkeys(made, ((1, 1), (2, 3)))
    fields: dict[str, Any] = {"solved": 0.5, "left_out": ()} | changes
    return Measurements(ranges=ranges, coverage_ns=(2.0, 40.0), seeds=(1, 2), runs=made, **fields)


def test_a_seed_solves_at_the_threshold_in_the_last_range() -> None:
    assert [found(solved=at).solvers("s3", "lstm") for at in (0, 0.25, 0.26, 1)] == [2, 2, 1, 1]


def test_coverage_of_a_uniform_guess() -> None:
    """6^-2 twice and 6^-3: N from 37 on counts the last alone."""
    guess = uniform_coverage(found(), "s3", (2, 3), (36, 37, 216, 217))
    np.testing.assert_allclose(guess, [1, 1 / 3, 1 / 3, 0])


@pytest.mark.long
def test_notes_tables_and_figures(tmp_path: Path) -> None:
    results = found(left_out=("seed 9 (s3_lstm)",))
    assert_whole(drawings(results), ["lengths", "seeds", "coverage"], tables(results), notes(results))
    written = " ".join(notes(results))
    assert "seed 9 (s3_lstm)" in written
    assert written.count("not judged") == 4
    outcomes = tables(results)[1][2]
    assert [row[1] for row in outcomes] == ["does not"] * 3 + ["solves"] + ["none"] * 2
    assert outcomes[0][2:] == [
        *(0.5, "[0.01258, 0.9874]", 0.875, "0.750-1.000", 0.5, 0.625, "0.250-1.000", pytest.approx(2 / 3))
    ]
    # Cov_2 and Cov_40 after two or three elements: (1 + 2/3)/2 and (1/3 + 0)/2; of a guess: 1 and 1/3.
    longest = tables(results)[-1][2]
    assert longest[0][1:] == pytest.approx([5 / 6, 1 / 6])
    assert longest[-1] == ["uniform guess", 1.0, pytest.approx(1 / 3)]
    drawn = save_all(tmp_path, drawings(results))
    assert all(file.stat().st_size > 10_000 for _, file in drawn)


def planned(config: DictConfig) -> dict[str, Arm]:
    plan = Plan(config, Path("runs/state_tracking/x"), frozenset({"scale", *field_checks(Settings)}))
    return runs.stage(read(Settings, config), plan)


@pytest.mark.long
@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_the_runs_of_a_scale(scale: str, compose_config: Callable[..., DictConfig]) -> None:
    config = compose_config("state_tracking", f"scale={scale}", f"experiment=state_tracking_{scale}")
    arms = planned(config)
    assert len(arms) == 12
    setups = {}
    for name, arm in arms.items():
        assert not {"scale", *field_checks(Settings)} & set(map(str, arm.config))
        setups[name] = build(arm.config)
        runs.check_run(read(Settings, config), name, setups[name])
    for problem, group in (("parity", "z2"), ("s3", "s3")):
        own = {name: setup for name, setup in setups.items() if name.startswith(problem)}
        tasks: list[Any] = [setup.phases[-1].task for setup in own.values()]
        assert {task.group for task in tasks} == {group}
        assert (
            len({(task, setup.phases[-1].steps) for task, setup in zip(tasks, own.values(), strict=True)})
            == 1
        )
        modules: list[Any] = [setup.model.module.keywords for setup in own.values()]  # type: ignore[attr-defined]
        assert [module["kind"] for module in modules] == ["delta"] * 4 + ["lstm", "transformer"]
        options = [dict(module["options"]) for module in modules[:4]]
        said = [(each.pop("negative_eigenvalues"), each.pop("householder_steps")) for each in options]
        assert said == [(False, 1), (False, 2), (True, 1), (True, 2)]
        assert all(each == options[0] for each in options)


def test_a_problem_may_be_overridden_alone(compose_config: Callable[..., DictConfig]) -> None:
    other = "+problems.s3={task: {length: 9}, steps: 77, delta: {width: 8, num_heads: 2}}"
    configs = {name: arm.config for name, arm in planned(compose_config("state_tracking", other)).items()}
    assert {(c.task.length, c.steps) for name, c in configs.items() if name.startswith("s3")} == {(9, 77)}
    assert configs["parity_lstm"].task.length != 9
    widths = {name: config.model.module.options.width for name, config in configs.items()}
    assert widths["s3_negative_1"] == 8
    assert widths["s3_lstm"] == widths["parity_lstm"] == widths["parity_negative_1"] != 8


def test_the_tiny_run_is_measured_again(
    tiny_claim: Callable[[str], Path], tiny_settings: Callable[[str], Settings]
) -> None:
    path = tiny_claim("state_tracking")
    verdict = Verdict.read(path / "verdict.json")
    assert (verdict.seeds, len(verdict.checks)) == ((3, 4), 5)
    names = [f"s3_{model}" for model in (*CELLS, "transformer")]
    opened = {name: open_run(path / name) for name in names}
    progress = Progress(show=False, interval=1)
    settings = tiny_settings("state_tracking")
    results = measure(settings, Study(opened, progress, path))
    assert checks(results) == verdict.checks


@pytest.mark.long
def test_scores_are_those_of_each_string_alone() -> None:
    """Products from the group's table, probabilities from the logits of one prompt."""
    task = GroupWord(group="s3", answer="running", min_length=1, length=3, longer=(5,))
    module = functools.partial(Reader, kind="lstm", options={"num_layers": 1, "width": 8})
    model = Flax(task.vocab_size, task.prompt_length, task.response_length, module)
    params = jax.jit(model.init)(jax.random.key(0))
    held_out = make_held_out(task, 8, 16, 0, "lengths")
    batch = jax.tree.map(lambda leaf: leaf[0], held_out.batches)
    evaluator = StateEvaluator()
    scores = {key: np.asarray(x) for key, x in evaluator.score(model, task, params, batch).items()}
    right, asked = 0, 0
    for row, prompt in enumerate(np.asarray(batch.example.prompt)):
        words = [int(token) for token in prompt if token != 0][:-1]
        # The response is not read: any tokens do.
        unread = jnp.ones((1, 1, task.longest), jnp.int32)
        logits = np.asarray(model.logits(params, prompt[None], prompt[None] > 0, unread), np.float64)[0, 0]
        product = 0
        for t, word in enumerate(words):
            product = int(task.structure.table[product, word - 1])
            log_prob = logits[t, 1 + product] - math.log(np.exp(logits[t]).sum())
            assert scores["log_prob"][row, t] == pytest.approx(log_prob, abs=1e-4)
            assert scores["right"][row, t] == (logits[t].argmax() == 1 + product)
            right, asked = right + int(scores["right"][row, t]), asked + 1
        assert scores["asked"][row].sum() == len(words)
        assert not scores["log_prob"][row, len(words) :].any()
        assert not scores["right"][row, len(words) :].any()
    assert dict(evaluator.reduce(scores, held_out)) == {"accuracy": pytest.approx(right / asked)}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_a_reader_gives_the_module_s_output_at_the_element(kind: str) -> None:
    options = {"num_layers": 1, "width": 8} | ({"num_heads": 2} if kind == "transformer" else {})
    reader = Reader(8, 5, kind, options, rngs=nnx.Rngs(1))
    tokens = jnp.array([[3, 4, 7, 1, 2, 0, 0, 0], [1, 2, 3, 6, 7, 5, 5, 5]])
    logits, plain = reader(tokens), reader.module(tokens[:, :4])
    # `=` is token 7: after two and four elements.
    np.testing.assert_allclose(logits[0, 2:4], plain[0, :2], rtol=1e-5)
    np.testing.assert_allclose(logits[1, 4:8], plain[1], rtol=1e-5)
    # Neither the response nor a later element changes an output.
    other = tokens.at[0, 3:].set(5).at[1, 5:].set(1).at[1, 3].set(1)
    changed = reader(other)
    np.testing.assert_allclose(changed[0, 2:4], logits[0, 2:4], rtol=1e-5)
    np.testing.assert_allclose(changed[1, 4:7], logits[1, 4:7], rtol=1e-5)
    assert not np.allclose(changed[1, 7], logits[1, 7])


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("gru", {}, "model.module.kind: 'gru' is not one of delta, lstm, transformer"),
        ("transformer", {"width": 0}, "compared.transformer.width: 0 is not an integer >= 1"),
        ("transformer", {"width": 9}, "compared.transformer.width: 9 is not a multiple of num_heads = 4"),
    ],
)
def test_a_reader_refuses(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reader(8, 5, kind, options, rngs=nnx.Rngs(1))
