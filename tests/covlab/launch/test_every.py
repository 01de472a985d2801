"""`every`, and what is sampled by default: configurations and objects, without compilation."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from covlab.launch.build import build, plain, spelt_out
from metrics.evaluators import DistributionEvaluator, SamplingEvaluator
from metrics.prompt_metrics import PromptMetrics

Compose = Callable[..., DictConfig]


def test_every_replaces_the_intervals_of_all_phases(compose_config: Compose) -> None:
    phases = (
        "+phases.one={steps: 6, log_every: 5, evaluation: {schedule: {every: 4, spacing: logarithmic}}}",
        "+phases.two={steps: 4}",
    )
    config = compose_config("train", "every=2", *phases)
    setup = build(config)
    assert [phase.boundaries for phase in setup.phases] == [(0, 2, 4, 6), (0, 2, 4)]
    assert [phase.schedule.steps(phase.steps) for phase in setup.phases] == [(0, 2, 4, 6), (0, 2, 4)]
    # The configuration itself stays as it was given.
    assert (config.every, config.phases.one.log_every) == (2, 5)


KEYS = ("every", "precision", "compiler_options")


def test_a_run_is_identified_without_the_key(compose_config: Compose) -> None:
    """Nor by defaults of `precision`, of `compiler_options`, of metrics and of a graph's `given`, which
    earlier runs have no key for either."""
    given = compose_config("train", "steps=3")
    rest = {key: value for key, value in plain(given).items() if key not in KEYS}
    later = {"pass_all_ns", "taus", "eps", "ratio_ns"}
    assert later < rest["evaluation"].keys()
    rest["evaluation"] = {key: value for key, value in rest["evaluation"].items() if key not in later}
    assert rest["task"].pop("given") == "prompt"
    assert plain(spelt_out(given)) == rest
    assert build(spelt_out(given)).evaluators == build(given).evaluators
    # Another number stays, and so an earlier run is not continued with it.
    other = plain(spelt_out(compose_config("train", "evaluation.taus=[0.2]", "evaluation.eps=[]")))
    assert {key: other["evaluation"].get(key) for key in later} == {
        "pass_all_ns": None,
        "taus": [0.2],
        "eps": [],
        "ratio_ns": None,
    }
    asked = compose_config("train", "precision=highest", "compiler_options={xla_x: true}")
    assert plain(spelt_out(asked))["precision"] == "highest"
    assert plain(spelt_out(asked))["compiler_options"] == {"xla_x": True}
    assert build(asked).phases[0].options == {"xla_x": True}
    spelt = compose_config("train", "steps=3", "log_every=1", "evaluation.schedule.every=1")
    assert plain(spelt_out(compose_config("train", "steps=3", "every=1"))) == plain(spelt_out(spelt))


def test_another_law_than_the_default_is_part_of_a_run(compose_config: Compose) -> None:
    asked = spelt_out(compose_config("train", "task.given=class", "+phases.one={task: {given: prompt}}"))
    assert (asked.task.given, asked.phases.one.task.given) == ("class", "prompt")
    (phase,) = build(asked).phases
    assert phase.task == build(compose_config("train")).phases[0].task
    # The nodes of a claim's problems too, so that its directories are those of earlier versions.
    claim = spelt_out(compose_config("depth"))
    assert "given" not in claim.problems.graph.task


@pytest.mark.parametrize("every", ["0", "true", "often"])
def test_a_bad_interval_is_one_line(compose_config: Compose, every: str) -> None:
    with pytest.raises(ValueError, match=r"^every: .* is neither null nor an integer >= 1$"):
        build(compose_config("train", f"every={every}"))


def test_responses_are_sampled_by_default_where_no_task_enumerates_them(compose_config: Compose) -> None:
    by_default = {
        task: build(compose_config("train", f"task={task}")).evaluators for task in ("layered_graph", "dyck")
    }
    exact = DistributionEvaluator(
        (2, 3, 4, 4.6, 5.7), (1, 4, 8, 12), PromptMetrics((8,), (0.5,), (0.05,), (8,))
    )
    assert by_default["layered_graph"] == (exact,)
    # 512 prompts of the class, every eighth of which is asked.
    assert by_default["dyck"] == (exact, SamplingEvaluator(16, (1, 4, 8, 12), 0, stride=8))
    small = build(compose_config("train", "task=dyck", "evaluation.num_examples=20"))
    assert small.evaluators[1] == SamplingEvaluator(16, stride=1)
    for given in ("evaluation.num_samples=0", "evaluation.pass_ns=[32]"):
        assert len(build(compose_config("train", "task=dyck", given)).evaluators) == 1
    given = build(compose_config("train", "task=dyck", "evaluation.num_samples=16"))
    assert given.evaluators[1] == SamplingEvaluator(16, stride=1)
