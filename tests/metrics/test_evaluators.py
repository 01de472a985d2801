"""Held-out sets and evaluators against closed forms and brute force."""

import math
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import layered_graph as oracle
from oracles.small.layered_graph import THIRDS, exact
from oracles.toy import TabularModel, ToyTask, class_blind_params

from decoding import sample_responses
from metrics import stratified_mean_interval
from metrics.candidates import Candidates
from metrics.evaluators import (
    Batch,
    DistributionEvaluator,
    HeldOut,
    SamplingEvaluator,
    make_held_out,
)
from tasks import LayeredGraph, stream
from tasks.group_word import GroupWord

MODEL = TabularModel()
TOY = ToyTask()
GRAPH = LayeredGraph(depth=2, width=2, branching=2, num_ids=30, mixture=THIRDS)
EXACT = DistributionEvaluator(coverage_ns=(2, 4, 5.7), pass_ns=(4, 8, 12))


@pytest.fixture(scope="module")
def toy() -> HeldOut:
    return make_held_out(TOY, 40, 32, 0)


@pytest.fixture(scope="module")
def graph() -> HeldOut:
    return make_held_out(GRAPH, 30, 32, 0)


def flat(held_out: HeldOut) -> Any:
    return jax.tree.map(
        lambda a: np.asarray(a).reshape(-1, *a.shape[2:])[: held_out.num_examples], held_out.batches
    )


def scores_of(evaluator: Any, held_out: HeldOut, params: Any) -> dict[str, np.ndarray]:
    score = jax.jit(lambda batch: evaluator.score(MODEL, held_out.task, params, batch))
    found = [
        score(jax.tree.map(lambda a, i=i: a[i], held_out.batches))
        for i in range(len(held_out.batches.position))
    ]
    return {key: np.concatenate([part[key] for part in found])[: held_out.num_examples] for key in found[0]}


@pytest.mark.long
def test_padding_of_short_responses_is_not_scored() -> None:
    """With uniform logits a response of n tokens costs n ln(vocabulary), whatever the longest has."""
    task = GroupWord(group="z2", answer="running", min_length=1, length=5, longer=())
    held_out = make_held_out(task, 32, 8, 0)
    batch = flat(held_out)
    np.testing.assert_array_equal(batch.candidates.mask[:, 0], batch.example.response_mask)
    lengths = batch.example.response_mask.sum(axis=1)
    assert set(lengths) == {1, 2, 3, 4, 5}
    uniform: Any = SimpleNamespace(
        logits=lambda params, prompt, mask, y: jnp.zeros((*y.shape, task.vocab_size))
    )
    scores = EXACT.score(uniform, task, {}, batch)
    np.testing.assert_allclose(scores["log_prob"][:, 0], -lengths * math.log(task.vocab_size), rtol=1e-6)


@pytest.mark.long
def test_the_held_out_set_is_stratified(graph: HeldOut) -> None:
    assert graph.num_examples == 90
    assert np.bincount(graph.groups).tolist() == [30, 30, 30]
    batch = flat(graph)
    assert batch.position.tolist() == list(range(90))
    np.testing.assert_array_equal(batch.example.group, graph.groups)
    assert graph.weights.sum() == pytest.approx(1)
    uneven, again = make_held_out(TOY, 3, 10, 0), make_held_out(TOY, 3, 10, 0)
    np.testing.assert_array_equal(flat(again).example.prompt, flat(uneven).example.prompt)
    np.testing.assert_allclose(uneven.weights, [0.9 / 3] * 3 + [0.1 / 3] * 3)


def test_a_ragged_last_batch_repeats_and_is_cut_off(graph: HeldOut) -> None:
    assert graph.batches.position.shape == (3, 32)
    assert sorted(set(np.asarray(graph.batches.position).reshape(-1).tolist())) == list(range(90))


def test_candidates_carry_the_oracles_law(graph: HeldOut) -> None:
    batch = flat(graph)
    assert graph.enumerated
    np.testing.assert_allclose(graph.candidate_weight.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.exp(graph.log_pi), graph.candidate_weight, rtol=1e-5)
    for i in range(graph.num_examples):
        text = GRAPH.decode(batch.example.prompt[i])
        found = oracle.parse(text, GRAPH.separators)
        bit = oracle.bit(found, GRAPH.subset, GRAPH.subset_seed, GRAPH.num_ids)
        for k, path in enumerate(batch.candidates.responses[i].tolist()):
            law = float(oracle.pi_data(found, bit, exact(GRAPH), path, GRAPH.branching))
            assert graph.candidate_weight[i, k] == pytest.approx(law, rel=1e-5)
            assert graph.correct[i, k] == (oracle.class_prob(found, GRAPH.groups[graph.groups[i]], path) > 0)


@pytest.mark.long
def test_evaluation_shares_no_prompt_with_training_or_another_split(graph: HeldOut) -> None:
    def prompts(examples: Any) -> set[tuple[int, ...]]:
        return {tuple(prompt) for prompt in np.asarray(examples.prompt).tolist()}

    own = prompts(flat(graph).example)
    assert len(own) == 90
    for other in (make_held_out(GRAPH, 30, 32, 1), make_held_out(GRAPH, 30, 32, 0, "asked")):
        assert not own & prompts(flat(other).example)
    sample = jax.jit(jax.vmap(GRAPH.sample))
    for seed in range(3):
        assert not own & prompts(sample(jax.random.split(stream(seed, "train", "p", "fresh", 0), 90)))


@pytest.mark.long
@pytest.mark.parametrize(
    ("p", "q", "printed", "passes", "coverages"),
    [
        (0.9, 0.1, 0.325, (0.934, 0.957, 0.972), (0.1, 0.1, 0.1)),
        (0.6, 0.4, 0.551, (0.964, 0.998, 0.9998), (0.1, 0, 0)),
        (0.5, 0.5, 0.693, (0.938, 0.996, 0.9998), (1, 0, 0)),
        (5 / 12, 5 / 12, 0.875, (0.884, 0.987, 0.998), (1, 0, 0)),
    ],
)
def test_class_blind_models_have_the_derived_numbers(
    toy: HeldOut, p: float, q: float, printed: float, passes: tuple[float, ...], coverages: tuple[float, ...]
) -> None:
    """Scores and metrics of a real class-blind model (derived from arXiv 2510.15020)."""
    found = dict(EXACT.reduce(scores_of(EXACT, toy, class_blind_params(p, q, MODEL)), toy))
    assert found["kl"] == pytest.approx(-0.9 * math.log(p) - 0.1 * math.log(q), rel=1e-5)
    assert found["kl"] == pytest.approx(printed, abs=6e-4)
    assert found["ce"] == pytest.approx(found["kl"], rel=1e-6)
    for n, value, shown in zip((4, 8, 12), passes, (3, 3, 3 if p in (0.9, 5 / 12) else 4), strict=True):
        assert found[f"pass/{n}"] == pytest.approx(1 - 0.9 * (1 - p) ** n - 0.1 * (1 - q) ** n, rel=1e-5)
        assert found[f"pass/{n}"] == pytest.approx(value, abs=0.6 * 10.0**-shown)
    assert [found[f"cov/{n}"] for n in ("2", "4", "5.7")] == pytest.approx(coverages)
    assert found["validity"] == pytest.approx(p + q, rel=1e-5)
    assert p == q or found["accuracy"] == pytest.approx(0.9)
    assert found["easy/kl"] == pytest.approx(-math.log(p), rel=1e-5)
    assert found["hard/kl"] == pytest.approx(-math.log(q), rel=1e-5)
    assert found["hard/pass/4"] == pytest.approx(1 - (1 - q) ** 4, rel=1e-5)
    assert found["bound_excess"] <= 1e-9


def test_the_enumerated_mixture_is_reduced_like_brute_force(graph: HeldOut) -> None:
    """pi_D = 3/4, 1/12, 1/12, 1/12 by the bit: every metric again, example by example."""
    rng = np.random.default_rng(0)
    model = rng.dirichlet([1, 1, 1, 1], graph.num_examples) * rng.uniform(0.5, 1, (graph.num_examples, 1))
    greedy = np.eye(4, dtype=bool)[rng.integers(0, 4, graph.num_examples)]
    found = dict(EXACT.reduce({"log_prob": np.log(model), "greedy": greedy}, graph))
    names = {"": range(90)} | {
        f"{name}/": np.flatnonzero(graph.groups == g) for g, name in enumerate(GRAPH.groups)
    }
    for prefix, members in names.items():
        total: dict[str, float] = {}
        for i in members:
            bit = int(flat(graph).example.latent.bit[i])
            pi = [3 / 4, 1 / 12, 1 / 12, 1 / 12] if bit == 1 else [1 / 12, 1 / 12, 1 / 12, 3 / 4]
            part = {"ce": -sum(pi[k] * math.log(model[i, k]) for k in range(4))}
            part["kl"] = sum(pi[k] * math.log(pi[k] / model[i, k]) for k in range(4))
            for n in (2, 4, 5.7):
                part[f"cov/{n}"] = sum(pi[k] for k in range(4) if pi[k] / model[i, k] >= n)
            group = GRAPH.groups[graph.groups[i]]
            correct = {"G1": [0], "G2": [3], "G3": [0, 1, 2, 3]}[group]
            for n in (4, 8, 12):
                part[f"pass/{n}"] = 1 - (1 - sum(model[i, k] for k in correct)) ** n
            part["validity"] = float(model[i].sum())
            part["accuracy"] = float(np.argmax(greedy[i]) in correct)
            total = {key: total.get(key, 0.0) + value / len(members) for key, value in part.items()}
        for key, value in total.items():
            assert found[prefix + key] == pytest.approx(value, rel=1e-5), prefix + key
        assert found[f"{prefix}bound_excess"] <= 1e-9


class Given(TabularModel):
    """`params` are the logits of all tokens of all candidates."""

    def logits(self, params: Any, prompt: Any, prompt_mask: Any, responses: Any) -> Any:
        return params


def test_the_score_of_a_response_is_that_of_its_tokens_without_padding() -> None:
    """Responses of three and of two tokens and a row of padding, for two prompts and four tokens."""
    token = np.log([[0.6, 0.2, 0.1, 0.1], [0.1, 0.5, 0.3, 0.1], [0.2, 0.4, 0.3, 0.1]])
    logits = jnp.asarray(np.broadcast_to(token, (2, 3, 3, 4)), jnp.float32)
    responses = np.array([[[0, 1, 1], [0, 2, 0], [0, 0, 0]], [[0, 1, 2], [0, 1, 0], [0, 0, 0]]])
    mask = np.broadcast_to(np.arange(3) < np.array([[3], [2], [0]]), (2, 3, 3))
    prompts: Any = SimpleNamespace(prompt=None, prompt_mask=None)
    batch = Batch(prompts, Candidates(responses, mask, *np.zeros((3, 2, 3))), np.arange(2))
    scores = jax.jit(lambda logits: EXACT.score(Given(), TOY, logits, batch))(logits)
    probs = [[0.6 * 0.5 * 0.4, 0.6 * 0.3, 0], [0.6 * 0.5 * 0.3, 0.6 * 0.5, 0]]
    np.testing.assert_allclose(np.exp(scores["log_prob"]), probs, rtol=1e-5)
    assert scores["greedy"].tolist() == [[True, False, True], [False, True, True]]


def test_a_perfect_model_has_no_divergence(graph: HeldOut) -> None:
    scores = {"log_prob": graph.log_pi, "greedy": graph.correct}
    found = dict(DistributionEvaluator(coverage_ns=(1, 1.01, 2)).reduce(scores, graph))
    assert found["kl"] == pytest.approx(0, abs=1e-6)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(1 / 12))
    assert found["ce"] == pytest.approx(entropy, rel=1e-5)
    assert (found["cov/1"], found["cov/1.01"], found["cov/2"]) == (pytest.approx(1), 0, 0)


def test_a_model_without_support_has_infinite_divergence_and_no_pass(toy: HeldOut) -> None:
    scores = {"log_prob": np.full((80, 2), -np.inf), "greedy": np.zeros((80, 2), bool)}
    found = dict(EXACT.reduce(scores, toy))
    assert found["kl"] == found["ce"] == math.inf
    assert found["cov/5.7"] == pytest.approx(1)
    assert (found["pass/12"], found["accuracy"], found["validity"]) == (0, 0, 0)


def test_the_histogram_is_the_law_of_the_log_ratio(graph: HeldOut) -> None:
    rng = np.random.default_rng(1)
    log_prob = np.log(rng.dirichlet([1, 1, 1, 1], (2, graph.num_examples)))
    ((name, values, weights),) = EXACT.histograms({"log_prob": log_prob}, graph)
    assert name == "log_ratio"
    assert weights.sum() == pytest.approx(1, rel=1e-5)
    kls = [dict(EXACT.reduce({"log_prob": one, "greedy": graph.correct}, graph))["kl"] for one in log_prob]
    assert values @ weights == pytest.approx(np.mean(kls), rel=1e-4)


def test_sampling_agrees_with_the_exact_numbers(toy: HeldOut) -> None:
    evaluator = SamplingEvaluator(num_samples=64, pass_ns=(1, 4, 8, 100), seed=3)
    assert evaluator.pass_ns == (1, 4, 8)
    params = class_blind_params(0.5, 0.3, MODEL)
    scores = scores_of(evaluator, toy, params)
    assert scores["num_correct"].shape == scores["num_valid"].shape == (80,)
    found = dict(evaluator.reduce(scores, toy))
    truth = dict(DistributionEvaluator(pass_ns=(1, 4, 8)).reduce(scores_of(EXACT, toy, params), toy))
    for n in (1, 4, 8):
        per_prompt = [1 - math.comb(64 - c, n) / math.comb(64, n) for c in scores["num_correct"].tolist()]
        assert found[f"sampled_pass/{n}"] == pytest.approx(
            np.average(per_prompt, weights=toy.weights), rel=1e-6
        )
        interval = stratified_mean_interval(np.array(per_prompt), toy.groups, np.array(TOY.group_probs))
        assert interval.low <= truth[f"pass/{n}"] <= interval.high
        assert interval.high - interval.low < 0.1
    assert found["sampled_validity"] == pytest.approx(truth["validity"], abs=0.03)
    again = scores_of(evaluator, toy, params)
    np.testing.assert_array_equal(again["num_correct"], scores["num_correct"])
    assert len(set(scores["num_correct"][:40].tolist())) > 3, "prompts share their samples"


def test_a_stride_samples_fewer_prompts_and_keeps_the_weights_of_the_classes(toy: HeldOut) -> None:
    evaluator = SamplingEvaluator(num_samples=4, pass_ns=(1,), stride=3)
    scores = scores_of(evaluator, toy, class_blind_params(0.5, 0.3, MODEL))
    size = toy.batches.position.shape[1]
    asked = np.arange(toy.num_examples) % size % 3 == 0
    np.testing.assert_array_equal(scores["num_correct"] >= 0, asked)
    np.testing.assert_array_equal(scores["num_valid"] >= 0, asked)
    shares = [scores["num_correct"][asked & (toy.groups == group)].mean() / 4 for group in (0, 1)]
    found = dict(evaluator.reduce(scores, toy))
    assert found["sampled_pass/1"] == pytest.approx(np.dot(shares, TOY.group_probs), rel=1e-6)


def test_by_default_every_exact_pass_rate_has_an_estimate_by_sampling() -> None:
    assert SamplingEvaluator().pass_ns == DistributionEvaluator().pass_ns == (1, 4, 8, 12)
    assert DistributionEvaluator().coverage_ns == (2, 3, 4, 4.6, 5.7)
    assert SamplingEvaluator(num_samples=8).pass_ns == (1, 4, 8)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: make_held_out(TOY, 0, 4, 0), "evaluation.num_examples: 0 is not an integer >= 1"),
        (lambda: make_held_out(TOY, 4, 0, 0), "evaluation.batch_size: 0 is not an integer >= 1"),
        (lambda: make_held_out(TOY, 4, 4, -1), "evaluation.seed: -1 is not an integer from 0 to 2147483647"),
        (
            lambda: DistributionEvaluator(coverage_ns=(0.5,)),
            "evaluation.coverage_ns: [0.5]; valid: numbers N >= 1, at least one",
        ),
        (
            lambda: DistributionEvaluator(pass_ns=()),
            "evaluation.pass_ns: []; valid: numbers N >= 1, at least one",
        ),
        (
            lambda: DistributionEvaluator(pass_ns=(1.5,)),
            "evaluation.pass_ns: [1.5]; valid: whole numbers N >= 1",
        ),
        (
            lambda: SamplingEvaluator(num_samples=2, pass_ns=(4,)),
            "evaluation.num_samples: 2 is below every N of evaluation.pass_ns",
        ),
    ],
)
def test_bad_settings_are_refused_in_one_line(make: Any, line: str) -> None:
    with pytest.raises(ValueError, match="evaluation") as refused:
        make()
    assert str(refused.value) == line


def test_samples_are_those_of_the_stream_of_the_batchs_first_position(toy: HeldOut) -> None:
    batch = jax.tree.map(lambda a: a[1], toy.batches)
    params = class_blind_params(0.5, 0.3, MODEL)
    evaluator = SamplingEvaluator(num_samples=8, pass_ns=(1,), seed=5)

    @jax.jit
    def plain(key: Any) -> Any:
        example = batch.example
        drawn, _ = sample_responses(MODEL, params, example.prompt, example.prompt_mask, key, 8)
        return jax.vmap(jax.vmap(TOY.reward, (None, 0)))(example.latent, drawn)

    rewards = plain(stream(5, "evaluation", "samples", int(batch.position[0])))
    found = jax.jit(lambda: evaluator.score(MODEL, TOY, params, batch))()
    np.testing.assert_array_equal(found["num_correct"], np.sum(np.asarray(rewards) > 0, axis=1))
