"""A trained run asked again: its numbers against the training loop's own, closed forms, and plain Python."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from omegaconf import OmegaConf

from covlab.launch import trained
from covlab.launch.build import build
from experiments import evaluate
from metrics import RATIO_TOLERANCE
from metrics.evaluators import Batch, DistributionEvaluator, Evaluator, HeldOut, make_held_out
from metrics.prompt_metrics import PromptMetrics
from models import Model, Params
from tasks import Task
from tracking import load_log_probs, read_records

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def asked_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy that evaluations may be written into."""
    return Path(shutil.copytree(tiny_run, tmp_path_factory.mktemp("asked") / "tiny"))


def test_checkpoints_repeat_the_numbers_of_training(tiny_run: Path) -> None:
    run = trained.open_run(tiny_run)
    evaluator = run.setup.evaluators[0]
    assert isinstance(evaluator, DistributionEvaluator)
    held_out = run.setup.evaluation[1].held_out(run.setup.phases[1].task)
    scorer = trained.make_scorer(run.setup.model, (evaluator,), held_out)
    params = run.parameters("finetune", 10)
    records = read_records(tiny_run / "metrics.jsonl")
    for index, seed in enumerate(run.setup.seeds):
        scores = scorer(jax.tree.map(lambda a, i=index: a[i], params))["distribution"]
        (record,) = [r for r in records if (r["phase"], r["step"], r["seed"]) == ("finetune", 10, seed)]
        for name, values in trained.exact_values(scores, held_out, evaluator):
            for label, interval in trained.intervals(values, name, held_out).items():
                key = "/".join(part for part in ("eval", label, name) if part)
                assert interval.estimate == pytest.approx(record[key], rel=1e-5, abs=1e-6), key
                assert interval.low <= interval.estimate <= interval.high


@pytest.mark.parametrize("phase", ["pretrain", "finetune"])
def test_metrics_against_the_start_repeat_the_numbers_of_training(tiny_run: Path, phase: str) -> None:
    """On the run's own held-out set, at a K for which many prompts are undecided at the start."""
    run = trained.open_run(tiny_run)
    index = [each.name for each in run.setup.phases].index(phase)
    held_out = run.setup.evaluation[index].held_out(run.setup.phases[index].task)
    kept = load_log_probs(tiny_run, f"{phase}_*")
    known = kept[f"{phase}_start"]["distribution/start"]
    metrics = PromptMetrics(eps=(0.05,), ratio_ns=(round(1 / np.exp(np.median(known))),))
    evaluator = DistributionEvaluator(prompts=metrics)
    start = evaluate._Start(run, phase, (evaluator,), held_out)
    scorer = trained.make_scorer(run.model, (evaluator,), held_out)
    params = run.parameters(phase, 10)
    ratios = []
    for i in range(len(run.setup.seeds)):
        own = start.of(i)["distribution"]
        np.testing.assert_allclose(own["start"], known[i], rtol=1e-4)
        scores = scorer(jax.tree.map(lambda a, i=i: a[i], params))["distribution"]
        found = evaluate.reduced(evaluator.of_the_set(scores | own, held_out), held_out.task.groups)
        then = {key: array[i] for key, array in kept[f"{phase}_00000010"].items()} | {"start": known[i]}
        expected = dict(evaluator.reduce(then, held_out))
        for name, by_class in found.items():
            for label, interval in by_class.items():
                key = f"{label}/{name}" if label else name
                assert interval.estimate == pytest.approx(expected.get(key, math.nan), rel=1e-2, nan_ok=True)
                assert math.isnan(interval.low)
        ratios.append(found[f"coverage_ratio/{metrics.ratio_ns[0]}"][""].estimate)
    assert not np.isnan(ratios).any()


def test_the_start_of_a_phase_is_found_where_a_run_kept_it(tiny_run: Path, tmp_path: Path) -> None:
    """Step 0, or the end of the phase before, or the fresh parameters: the same numbers."""
    path = Path(shutil.copytree(tiny_run, tmp_path / "tiny"))
    run = trained.open_run(path)

    def agree(found: Params | None, expected: Params) -> None:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), found, expected)

    starts = {phase: run.parameters(phase, 0) for phase in ("pretrain", "finetune")}
    for phase, expected in starts.items():
        agree(run.start(phase), expected)
        (path / "checkpoints" / "parameters" / phase / "00000000.npz").unlink()
        agree(run.start(phase), expected)
    (path / "checkpoints" / "parameters" / "pretrain" / "00000020.npz").unlink()
    assert run.start("finetune") is None
    from_base = dataclasses.replace(run, setup=dataclasses.replace(run.setup, start_from_base=True))
    assert from_base.start("pretrain") is None


def test_bounds_are_above_coverage_and_match_plain_python(tiny_run: Path) -> None:
    run = trained.open_run(tiny_run)
    held_out = run.setup.evaluation[1].held_out(run.setup.phases[1].task)
    rng = np.random.default_rng(0)
    ratio = rng.normal(1.0, 1.0, held_out.log_pi.shape)
    scores = {"log_prob": held_out.log_pi - ratio}
    ns = (1.5, 4.0)
    found = trained.bounds(scores, held_out, ns)
    for n in ns:
        t = math.log(n) - RATIO_TOLERANCE
        kl_part = hellinger_part = tail = 0.0
        for i in range(held_out.num_examples):
            for c, weight in enumerate(held_out.candidate_weight[i]):
                w, x = held_out.weights[i] * weight, ratio[i, c]
                kl_part += w * (x + math.exp(-x) - 1)
                hellinger_part += w * (1 - math.exp(-x / 2)) ** 2
                tail += w * (x >= t)
        assert found["kl_bound"][n] == pytest.approx(kl_part / (t - 1 + math.exp(-t)), rel=1e-6)
        assert found["hellinger_bound"][n] == pytest.approx(
            hellinger_part / (1 - math.exp(-t / 2)) ** 2, rel=1e-6
        )
        assert tail <= min(found["kl_bound"][n], found["hellinger_bound"][n])


def test_intervals_of_fractions_never_collapse_or_leave_the_unit_interval() -> None:
    groups, probabilities = np.repeat([0, 1], 10), [0.9, 0.1]
    none = trained.example_interval(np.zeros(20), "accuracy", groups, probabilities)
    assert none.low == none.estimate == 0
    assert none.high > 0.2
    values = np.linspace(0.9, 1.0, 20)
    near_one = trained.example_interval(values, "pass/8", groups, probabilities)
    assert near_one.high <= 1
    assert near_one.estimate == pytest.approx(0.9 * values[:10].mean() + 0.1 * values[10:].mean())
    infinite = trained.example_interval(np.array([1.0, np.inf] * 10), "kl", groups, probabilities)
    assert infinite.estimate == math.inf
    assert math.isnan(infinite.low)


def test_sampled_values_are_the_unbiased_estimator() -> None:
    scores = {"num_correct": np.array([0, 1, 4]), "num_valid": np.array([2, 4, 4])}
    values = dict(trained.sampled_values(scores, 4, (1, 2)))
    expected = [1 - math.comb(4 - c, 2) / math.comb(4, 2) for c in (0, 1, 4)]
    assert values["sampled_pass/2"].tolist() == pytest.approx(expected)
    assert values["sampled_pass/1"].tolist() == pytest.approx([0, 0.25, 1])
    assert values["sampled_validity"].tolist() == [0.5, 1, 1]


def test_the_asked_set_is_not_the_evaluated_one(tiny_run: Path) -> None:
    task = trained.open_run(tiny_run).task("finetune", {})
    asked = np.asarray(make_held_out(task, 16, 48, 0, "asked").batches.example.prompt)[0]
    evaluated = load_log_probs(tiny_run, "finetune_held_out")["finetune_held_out"]["prompt"]
    assert asked.shape == evaluated.shape
    assert not (asked[:, None] == evaluated[None]).all(axis=-1).any()


def test_command_writes_strict_json(asked_run: Path, call: Callable[..., object]) -> None:
    arguments = [
        f"run={asked_run}",
        "checkpoints=finetune:10",
        "num_examples=8",
        "num_samples=16",
        "pass_ns=[1,4]",
    ]
    ended = call(evaluate.main, *arguments, "coverage_ns=[2,32]", "out=one")
    assert (ended.status, ended.err) == (0, "")
    content = json.loads((asked_run / "evaluations" / "one.json").read_text(), parse_constant=pytest.fail)
    (checkpoint,) = content["checkpoints"]
    assert (checkpoint["phase"], checkpoint["step"], checkpoint["diverged_seeds"]) == ("finetune", 10, [])
    assert set(checkpoint["seeds"]) == {"0", "1"}
    names = set(checkpoint["seeds"]["0"])
    assert {"kl", "G3/kl", "cov/32", "pass/4", "sampled_pass/4", "sampled_validity", "accuracy"} <= names
    estimates = [checkpoint["seeds"][seed]["kl"]["estimate"] for seed in ("0", "1")]
    assert checkpoint["over_seeds"]["kl"]["estimate"] == pytest.approx(sum(estimates) / 2)
    # Student's t with one degree of freedom: 12.706 standard errors.
    half = 12.7062 * abs(estimates[0] - estimates[1]) / 2
    width = checkpoint["over_seeds"]["kl"]["high"] - checkpoint["over_seeds"]["kl"]["low"]
    assert width == pytest.approx(2 * half, rel=1e-4)
    assert "mean over 2 seeds" in ended.out
    assert "hellinger bound" in ended.out


def test_several_checkpoints_one_seed_another_task(asked_run: Path, call: Callable[..., object]) -> None:
    ended = call(
        evaluate.main,
        f"run={asked_run}",
        "checkpoints=[last,finetune:5]",
        "seeds=[1]",
        "num_samples=0",
        "num_examples=4",
        "task_overrides={mixture:{G1:1.0,G2:0.0,G3:0.0}}",
        "out=other",
    )
    assert (ended.status, ended.err) == (0, "")
    content = json.loads((asked_run / "evaluations" / "other.json").read_text())
    assert [c["step"] for c in content["checkpoints"]] == [5, 20]
    assert all(set(c["seeds"]) == {"1"} for c in content["checkpoints"])
    assert not any(name.startswith("G") for name in content["checkpoints"][0]["seeds"]["1"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["checkpoints=finetune:7"], "checkpoints: finetune:7 asked of"),
        (["checkpoints=[]"], "checkpoints: none asked of"),
        (["seeds=[5]"], "seeds: 5 is not in the run; valid are all, 0, 1"),
        (["num_examples=1"], "num_examples: 1 of each class give no interval; valid: at least 2"),
        (["num_samples=-1"], "num_samples: -1 is not an integer >= 0"),
        (["coverage_ns=[0.5]"], "evaluation.coverage_ns: [0.5]; valid: numbers N >= 1"),
        (
            ["task_overrides={num_ids:9}"],
            "task_overrides: vocab_size becomes 13; valid: 12",
        ),
        (["task_overrides={depht:3}"], "task_overrides.depht: no such field; valid are branching, depth"),
        (["task_overrides=3"], "task_overrides: 3 is not a mapping"),
        (["out=../x", "num_samples=0"], "out: '../x' is not a file name"),
        (["checkpoint=last"], "checkpoint: no such key; valid are"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, tiny_run: Path, call: Callable[..., object]
) -> None:
    ended = call(evaluate.main, f"run={tiny_run}", *arguments)
    assert ended.status == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert not (tiny_run / "evaluations").exists()


def test_missing_runs_and_checkpoints_are_named(
    tmp_path: Path, tiny_run: Path, call: Callable[..., object]
) -> None:
    assert "run: none is named" in call(evaluate.main).err
    assert "nowhere/config.yaml: No such file" in call(evaluate.main, "run=nowhere").err
    begun = tmp_path / "begun"
    begun.mkdir()
    shutil.copy(tiny_run / "config.yaml", begun)
    assert "there are none yet" in call(evaluate.main, f"run={begun}").err
    (begun / "config.yaml").write_text("name: other\n")
    assert (
        "config.yaml has no phases; valid: a run of experiments.train"
        in call(evaluate.main, f"run={begun}").err
    )


def test_a_diverged_seed_is_left_out_and_named(
    tiny_run: Path, tmp_path: Path, call: Callable[..., Any]
) -> None:
    path = Path(shutil.copytree(tiny_run, tmp_path / "diverged"))
    lines = (path / "metrics.jsonl").read_text().splitlines()
    kept = [
        line
        for line in lines
        if not ((r := json.loads(line))["seed"] == 1 and r["phase"] == "finetune" and r["step"] >= 10)
    ]
    (path / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    run = trained.open_run(path)
    assert run.healthy_seeds("finetune", 5) == (0, 1)
    assert run.healthy_seeds("finetune", 10) == (0,)
    small = ("num_examples=2", "num_samples=0", "out=x")
    ended = call(evaluate.main, f"run={path}", "checkpoints=[finetune:5,finetune:10]", *small)
    assert (ended.status, ended.err) == (0, "")
    assert f"{path}: seed 1 had diverged at finetune:10 and is left out" in ended.out
    first, second = json.loads((path / "evaluations" / "x.json").read_text())["checkpoints"]
    assert (set(first["seeds"]), set(second["seeds"])) == ({"0", "1"}, {"0"})
    ended = call(evaluate.main, f"run={path}", "checkpoints=finetune:10", "seeds=[1]", *small)
    assert ended.status == 2
    assert "every seed that is asked for had diverged at finetune:10" in ended.err
    assert ended.err.count("\n") == 1


def test_rebuilding_uses_the_run_s_configuration_alone(tiny_run: Path) -> None:
    run = trained.open_run(tiny_run)
    task = run.task("finetune", {})
    assert task == run.setup.phases[1].task
    assert run.setup.model == build(OmegaConf.load(tiny_run / "config.yaml")).model
    assert task.groups == ("G1", "G2", "G3")
    assert run.task("pretrain", {}).groups == ("G1", "G2")


@dataclasses.dataclass(frozen=True)
class Certainty(Evaluator):
    """exp of the largest log-probability of a candidate, per class and overall."""

    name: str = dataclasses.field(default="certainty", init=False)

    def score(self, model: Model, task: Task, params: Params, batch: Batch) -> dict[str, Any]:
        found = DistributionEvaluator().score(model, task, params, batch)
        return {"largest": found["log_prob"].max(axis=-1)}

    def reduce(self, scores: dict[str, np.ndarray], held_out: HeldOut) -> Iterator[tuple[str, float]]:
        largest = np.exp(scores["largest"])
        yield "largest/mean", float(np.average(largest, weights=held_out.weights))
        for group, name in enumerate(held_out.task.groups):
            yield f"{name}/largest/mean", float(largest[held_out.groups == group].mean())


def test_further_evaluators_of_the_run_are_asked_too(tiny_run: Path) -> None:
    """Without intervals over prompts; with Student's over seeds."""
    run = trained.open_run(tiny_run)
    held_out = run.setup.evaluation[1].held_out(run.setup.phases[1].task, "asked")
    evaluators = (*run.setup.evaluators[:1], Certainty())
    scorer = trained.make_scorer(run.setup.model, evaluators, held_out)
    params = run.parameters("finetune", 10)
    seeds = {
        seed: evaluate.measure_seed(scorer(jax.tree.map(lambda a, i=i: a[i], params)), held_out, evaluators)
        for i, seed in enumerate(run.setup.seeds)
    }
    first = next(iter(seeds.values()))
    assert set(first["largest/mean"]) == {"", *held_out.task.groups}
    assert 0 < first["largest/mean"][""].estimate <= 1
    assert math.isnan(first["largest/mean"][""].low)
    together = evaluate.over_seeds(seeds)["largest/mean"][""]
    assert together.low <= together.estimate <= together.high
    evaluate.print_results([evaluate.Result("finetune", 10, {0: first}, {0: {}}, (), "")], tiny_run)


def test_the_run_s_own_further_evaluators_are_kept(tiny_run: Path, compose_config: Any) -> None:
    run = trained.open_run(tiny_run)
    settings = [dataclasses.replace(each, extra=(Certainty(),)) for each in run.setup.evaluation]
    setup = dataclasses.replace(run.setup, evaluation=tuple(settings))
    asked = evaluate.settings_of(
        compose_config("evaluate"), dataclasses.replace(run, setup=setup), run.setup.phases[1].name
    )
    assert [each.name for each in asked.evaluators()][-1] == "certainty"
