"""The path-star claim: its estimators on models whose answer is known, its checks, its command."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from omegaconf import DictConfig
from oracles.reports import assert_rectangular

from covlab.claims import arms
from covlab.claims.arms import Arm
from covlab.claims.claim import Plan
from covlab.claims.settings import field_checks, read
from covlab.launch.build import build
from covlab.launch.runs import Finished
from covlab.report.plotting import save_all
from covlab.report.verdict import Verdict
from experiments.path_star import figures as path_star_figures
from experiments.path_star import runs
from experiments.path_star.checks import checks, interval, looked_up, notes, pass_deviations
from experiments.path_star.figures import tables
from experiments.path_star.measure import (
    CURVES,
    FORWARD,
    MULTI_TOKEN,
    RECURRENT,
    REVERSED,
    TEACHERLESS,
    ArmEvaluator,
    ArmScores,
    Measurements,
    Run,
    Settings,
    arm_scores,
    clever_hans,
)
from metrics.evaluators import make_held_out
from models import GPT, Flax, MultiTokenGPT, TeacherlessGPT
from tasks import PathStar
from training import MultiToken

SEEDS, PROMPTS, LENGTH = 6, 300, 4
STEPS = np.arange(0, 5) * 100


# Models whose answer is known.


def scores_of(model: str, seed: int, arms: int = 3) -> ArmScores:
    """ "hans" takes any arm and follows it, with the goal at its end; "knows" writes the right arm."""
    rng = np.random.default_rng(seed)
    right = np.eye(arms, dtype=bool)[rng.integers(arms, size=PROMPTS)]
    tokens = np.full((PROMPTS, arms, LENGTH), math.log(0.999))
    if model == "hans":
        share = rng.normal(0, 0.02, (PROMPTS, arms))
        tokens[..., 1] = -np.log(np.exp(share).sum(axis=1, keepdims=True)) + share
        tokens[..., -1] = np.where(right, math.log(0.999), math.log(1e-4))
        greedy = np.eye(arms, dtype=bool)[share.argmax(axis=1)] & right
    else:
        tokens[~right] = math.log(1e-3)
        greedy = right
    crossing = np.where(right[..., None], tokens, math.log(1e-3))
    return ArmScores(tokens, crossing, greedy, right)


def run_of(model: str, arms: int = 3) -> Run:
    last = tuple(scores_of(model, seed, arms) for seed in range(SEEDS))
    curve = np.linspace(0.2, 0.3, SEEDS)[:, None] + np.zeros(len(STEPS))
    loss = np.array([[own.loss, own.loss] for own in last])
    return Run(STEPS, dict.fromkeys(CURVES, curve), (0, 400), loss, last, 0.0)


def measured(forward: str = "hans", backwards: str = "knows", arms: int = 3) -> Measurements:
    runs = {
        FORWARD: run_of(forward, arms),
        REVERSED: run_of(backwards, arms),
        TEACHERLESS: run_of("hans", arms),
        MULTI_TOKEN: run_of("hans", arms),
        RECURRENT: run_of("hans", arms),
    }
    return Measurements(arms, 1.5, (1, 2, 4, 16), tuple(range(SEEDS)), (), runs)


def failing(found: Measurements) -> set[str]:
    return {check.name for check in checks(found) if not check.passed}


def test_estimators_on_a_model_that_takes_any_arm() -> None:
    found = scores_of("hans", 0)
    follow = math.log(0.999)
    np.testing.assert_allclose(found.loss, [-follow, math.log(3), -follow, -follow], atol=0.01)
    assert found.follows.mean() == pytest.approx(0.999**2, abs=1e-3)
    assert found.valid.mean() == pytest.approx(1 / 3, abs=0.01)
    assert found.correct.mean() == pytest.approx(1 / 3, abs=0.1)
    assert found.coverage(2).mean() == 1
    assert found.coverage(4.5).mean() == 0
    np.testing.assert_allclose(found.passes((1, 4)).mean(axis=0), [1 / 3, 1 - (2 / 3) ** 4], atol=0.01)


def test_an_interval_covers_seeds_and_prompts() -> None:
    found = measured()
    own = interval(found, FORWARD, lambda s: s.correct)
    means = [s.correct.mean() for s in found.runs[FORWARD].last]
    assert own.estimate == pytest.approx(np.mean(means))
    # Of one seed and 300 prompts alone the exact interval is about .11 wide.
    assert own.high - own.low > 0.1
    same = dataclasses.replace(
        found, runs={FORWARD: dataclasses.replace(found.runs[FORWARD], last=(scores_of("hans", 0),) * SEEDS)}
    )
    alone = interval(same, FORWARD, lambda s: s.correct)
    assert 0.1 < alone.high - alone.low < own.high - own.low
    knows = interval(found, REVERSED, lambda s: s.correct)
    assert (knows.estimate, knows.high) == (1, 1)
    assert 0.98 < knows.low < 1
    nan = interval(found, FORWARD, lambda s: np.full(PROMPTS, np.nan))
    assert math.isnan(nan.estimate)


def test_checks_pass_where_forward_is_at_chance_and_reversed_knows() -> None:
    assert failing(widened(measured())) == set()


def widened(found: Measurements) -> Measurements:
    """The same with more prompts: 300 leave accuracy an interval wider than its targets."""

    def more(own: ArmScores) -> ArmScores:
        return ArmScores(
            *(np.concatenate([a] * 16) for a in (own.tokens, own.crossing, own.greedy, own.right))
        )

    runs = {
        name: dataclasses.replace(run, last=tuple(more(own) for own in run.last))
        for name, run in found.runs.items()
    }
    return dataclasses.replace(found, runs=runs)


@pytest.mark.long
def test_deviations_notes_tables_and_figures(tmp_path: Path) -> None:
    found = dataclasses.replace(measured(), left_out=("seed 9 (forward)",))
    closed = clever_hans(3, (1,), found.pass_ns).passes
    for n, value in pass_deviations(found).items():
        mean = np.mean([own.passes((n,)).mean() for own in found.runs[FORWARD].last])
        assert value.estimate == pytest.approx(mean - closed[n])
    assert looked_up(found, FORWARD) == [0, 2, 3]
    assert looked_up(found, REVERSED) == [0, 1, 2, 3]
    text = " ".join(notes(found))
    assert "seed 9 (forward)" in text
    assert_rectangular(tables(found))
    drawn = path_star_figures.drawings(found)
    assert [each.name for each in drawn] == ["curves", "coverage", "tokens"]
    assert all(path.stat().st_size > 10_000 for _, path in save_all(tmp_path, drawn))
    top = path_star_figures.tokens(found).axes[0]
    np.testing.assert_allclose(
        np.asarray(top.lines[0].get_ydata(), float), np.median(found.runs[FORWARD].loss[:, -1], axis=0)
    )


@pytest.mark.long
def test_arm_evaluator_agrees_with_whole_sequences() -> None:
    task = PathStar(arms=2, path_length=3, num_ids=6)
    held_out = make_held_out(task, 10, 4, 0)
    model = GPT(task.vocab_size, task.prompt_length, task.response_length, 1, 2, 16)
    params = jax.jit(model.init)(jax.random.key(0))
    evaluator = ArmEvaluator()
    found = jax.jit(
        lambda batches: jax.lax.map(lambda batch: evaluator.score(model, task, params, batch), batches)
    )(held_out.batches)
    flat = {key: np.asarray(a).reshape(-1, *a.shape[2:]) for key, a in found.items()}
    scores = arm_scores(flat, held_out)
    assert scores.tokens.shape == (10, 2, 3)
    example = held_out.batches.example
    prompt = np.asarray(example.prompt).reshape(-1, task.prompt_length)[:10]
    response = np.asarray(example.response).reshape(-1, 3)[:10]
    logits = np.asarray(jax.jit(model.logits)(params, prompt, prompt > 0, response[:, None]))[:, 0]
    normal = np.log(np.exp(logits).sum(axis=-1))
    exact = np.take_along_axis(logits, response[..., None], axis=-1)[..., 0] - normal
    np.testing.assert_allclose(scores.right_tokens, exact, atol=1e-5)
    np.testing.assert_allclose(scores.crossing[scores.right], exact, atol=1e-5)
    # The right arm's third token after the wrong arm's second one, in a sequence of its own.
    arms = np.asarray(held_out.batches.candidates.responses).reshape(-1, 2, 3)[:10]
    wrong = arms[~scores.right]
    crossed = np.concatenate([wrong[:, :2], response[:, 2:]], axis=1)
    other = np.asarray(jax.jit(model.logits)(params, prompt, prompt > 0, crossed[:, None]))[:, 0]
    after = np.take_along_axis(other, crossed[..., None], -1)[..., 0] - np.log(np.exp(other).sum(-1))
    np.testing.assert_allclose(scores.crosses, np.exp(after[:, 2]), rtol=1e-4)
    np.testing.assert_array_equal(scores.correct, np.all(np.argmax(logits, -1) == response, axis=1))
    losses = dict(evaluator.reduce(flat, held_out))
    assert list(losses.values()) == pytest.approx((-exact.mean(axis=0)).tolist(), abs=1e-5)


# The command.


def planned(config: DictConfig) -> dict[str, Arm]:
    plan = Plan(config, Path("runs/path_star/x"), frozenset({"scale", *field_checks(Settings)}))
    return runs.stage(read(Settings, config), plan)


@pytest.mark.parametrize("scale", ["cpu", "paper"])
def test_every_run_of_a_scale_is_a_run_of_train(
    scale: str, compose_config: Callable[..., DictConfig]
) -> None:
    config = compose_config("path_star", f"scale={scale}", f"experiment=path_star_{scale}")
    setups = {}
    for name, arm in planned(config).items():
        assert not {"scale", *field_checks(Settings)} & set(map(str, arm.config))
        setups[name] = build(arm.config)
        runs.check_run(read(Settings, config), name, setups[name])
    tasks: dict[str, Any] = {name: setup.phases[-1].task for name, setup in setups.items()}
    assert [tasks[name].reversed for name in runs.RUNS] == [False, True, False, False, False]
    kinds = [type(setup.model) for setup in setups.values()]
    assert kinds == [GPT, GPT, TeacherlessGPT, MultiTokenGPT, Flax]
    length = tasks[FORWARD].response_length
    assert setups[MULTI_TOKEN].phases[-1].objective == MultiToken(k=length)
    assert [setup.model.ahead for setup in setups.values()] == [0, 0, 0, length - 1, 0]
    assert len({dataclasses.replace(task, reversed=False) for task in tasks.values()}) == 1
    lstm: Any = setups.pop(RECURRENT).model
    assert (lstm.module.func.__name__, lstm.module.keywords) == ("LSTM", {"num_layers": 1, "width": 128})
    assert len({(s.model.num_layers, s.model.width) for s in setups.values()}) == 1  # type: ignore[attr-defined]


def test_a_run_may_be_overridden_alone(compose_config: Callable[..., DictConfig]) -> None:
    other = "+per_run={teacherless: {steps: 77, model: {num_layers: 5}}, multi_token: {objective: {k: 2}}, "
    other += "recurrent: {steps: 66, model: {module: {width: 9}}}}"
    config = compose_config("path_star", other)
    configs = {name: arm.config for name, arm in planned(config).items()}
    assert (configs[TEACHERLESS].steps, configs[TEACHERLESS].model.num_layers) == (77, 5)
    assert configs[MULTI_TOKEN].objective.k == 2
    assert (configs[RECURRENT].steps, configs[RECURRENT].model.module.width) == (66, 9)
    assert configs[RECURRENT].model.module.num_layers == 1
    assert (configs[FORWARD].steps, configs[FORWARD].model.num_layers) == (
        config.steps,
        config.model.num_layers,
    )


@pytest.mark.parametrize(("state", "status"), [("stopped", 130), ("failed", 1)])
def test_a_run_that_does_not_finish_ends_the_command(
    state: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    tiny_config: Callable[[str], DictConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tiny_config("path_star")
    trained = []

    def train_run(own: DictConfig, path: Path, *_: Any) -> Finished:
        trained.append(own.name)
        return Finished(path, state if own.task.reversed else "complete", "SIGTERM", 1.0)

    monkeypatch.setattr(arms, "train_run", train_run)
    monkeypatch.setattr(arms.StopRequest, "install", lambda self: self)
    assert arms.train_arms("path_star", planned(config), Path("runs/path_star/x")) == status
    assert trained == ["x-forward", "x-reversed"]
    said = capsys.readouterr().err
    assert "path_star: reversed, 2 of 5: runs/path_star/x/reversed" in said
    assert "runs/path_star/x/reversed: " in said


@pytest.mark.long
def test_the_tiny_run_trains_every_run(tiny_claim: Callable[[str], Path]) -> None:
    path = tiny_claim("path_star")
    verdict = Verdict.read(path / "verdict.json")
    assert (verdict.holds, verdict.seeds) == (False, (3, 4))
    metrics = {name: (path / name / "metrics.jsonl").read_bytes() for name in runs.RUNS}
    last = json.loads(metrics[TEACHERLESS].splitlines()[-1])
    assert last["step"] == 8
    assert {"eval/kl", "eval/validity", "eval/pass/16", "eval/accuracy"} <= last.keys()
