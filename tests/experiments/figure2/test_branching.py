"""The branching layers of class "xor", scored on models that give prescribed probabilities."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covlab.claims.matrices import spread
from experiments.figure2.branching import (
    BranchEvaluator,
    BranchScores,
    bit_auc,
    branch_scores,
    hard_class,
    only_class,
    paths,
)
from metrics.evaluators import DistributionEvaluator, HeldOut, make_held_out
from models import Model
from tasks import LayeredGraph

PROBS = {"chain": 0.94, "xor": 0.05, "uniform": 0.01}
LN2 = math.log(2)
DEPTH, LAYERS = 6, 3


@dataclasses.dataclass(frozen=True)
class LookUp(Model):
    """A model whose parameters are the logits that it gives for each prompt of a known list."""

    vocab_size: int
    prompt_length: int
    response_length: int

    def logits(self, params: Any, prompt: Any, prompt_mask: Any, responses: Any) -> Any:
        known = jnp.all(prompt[:, None] == params["prompt"][None], axis=-1)
        return params["logits"][jnp.argmax(known, axis=1)][:, None]

    def init(self, key: Any) -> Any:
        raise NotImplementedError

    def prompt_logits(self, params: Any, prompt: Any, prompt_mask: Any) -> Any:
        raise NotImplementedError

    def start(self, params: Any, prompt: Any, prompt_mask: Any, num_samples: int) -> Any:
        raise NotImplementedError

    def step(self, params: Any, cache: Any, tokens: Any, position: Any) -> Any:
        raise NotImplementedError


@pytest.fixture(scope="module")
def everything() -> HeldOut:
    task = LayeredGraph(
        depth=DEPTH, width=2, num_ids=20, mixture=PROBS, edge_order="by_layer", separators=False,
        max_enumerated=0,
    )  # fmt: skip
    return make_held_out(task, 64, 48, seed=3, split="branching")


@pytest.fixture(scope="module")
def held_out(everything: HeldOut) -> HeldOut:
    return only_class(everything, "xor")


def prescribed(held_out: HeldOut, right: Any, local: float = 1.0) -> tuple[LookUp, dict[str, Any]]:
    """A model that takes a passable node with probability `local` (the rest spread over all other tokens) and
    in branching layer k the right one of the two with share `right(k, b)`."""
    task = held_out.task
    example = held_out.batches.example
    prompt = np.asarray(example.prompt).reshape(-1, task.prompt_length)[: held_out.num_examples]
    passable, response = paths(held_out)
    probabilities = np.full((*response.shape, task.vocab_size), np.nan)
    for i, path in enumerate(response):
        k, parities = 0, sum(int(v) for v in passable[i].ravel() if v >= 0 and v % 2)
        for position, node in enumerate(path):
            mass = {int(node): local}
            pair = passable[i, position - 1] if 0 < position <= task.depth else np.array([-1, -1])
            if (pair >= 0).all():
                other = int(pair.sum() - node)
                share = right(k, parities % 2)
                mass = {int(node): local * share, other: local * (1 - share)}
                k += 1
            row = probabilities[i, position]
            row[:] = max((1 - local) / (task.vocab_size - len(mass)), 1e-30)
            for token, p in mass.items():
                row[token] = max(p, 1e-30)
    model = LookUp(task.vocab_size, task.prompt_length, task.response_length)
    return model, {"prompt": jnp.asarray(prompt), "logits": jnp.log(jnp.asarray(probabilities, jnp.float32))}


def scored(held_out: HeldOut, right: Any, local: float = 1.0) -> tuple[BranchScores, dict[str, float]]:
    model, params = prescribed(held_out, right, local)
    evaluator = BranchEvaluator()
    parts = []
    for index in range(held_out.batches.position.shape[0]):
        batch = _batch(held_out, index)
        parts.append(np.asarray(evaluator.score(model, held_out.task, params, batch)["log_prob"]))
    log_prob = np.concatenate(parts)[: held_out.num_examples]
    values = dict(evaluator.reduce({"log_prob": log_prob}, held_out))
    return branch_scores(log_prob, *paths(held_out)), values


def _batch(held_out: HeldOut, index: int) -> Any:
    return jax.tree.map(lambda a: a[index], held_out.batches)


@pytest.mark.long
def test_only_class_keeps_that_class(everything: HeldOut, held_out: HeldOut) -> None:
    assert held_out.num_examples == 64
    assert held_out.batches.position.shape == (2, 48)
    assert set(np.asarray(held_out.batches.example.group).ravel().tolist()) == {1}
    assert set(held_out.groups.tolist()) == {1}
    with pytest.raises(ValueError, match=r"^task.mixture: no class 'G1'; valid: "):
        only_class(everything, "G1")


def test_the_hard_class_is_the_one_of_two() -> None:
    assert [hard_class(("chain", name, "uniform")) for name in ("xor", "parities")] == ["xor", "parities"]
    for groups in (("chain", "uniform"), ("xor", "parities")):
        with pytest.raises(ValueError, match=f"^task.mixture: {', '.join(groups)}; figure2 needs one of xor"):
            hard_class(groups)


@pytest.mark.long
def test_a_guesser_pays_ln_2_in_every_layer_and_knows_no_bit(held_out: HeldOut) -> None:
    scores, values = scored(held_out, lambda k, b: 0.5)
    assert values == {
        f"{name}/{k}": pytest.approx(LN2, abs=1e-5) for name in ("loss", "choice_loss") for k in (1, 2, 3)
    }
    np.testing.assert_allclose(scores.log_odds, 0, atol=1e-5)
    assert scores.loss.shape == (64, LAYERS)


def test_the_bit_is_the_xor_of_all_passable_parities(held_out: HeldOut) -> None:
    scores, _ = scored(held_out, lambda k, b: 0.5)
    passable, _ = paths(held_out)
    parity = np.where(passable >= 0, passable % 2, 0).sum(axis=(1, 2)) % 2
    np.testing.assert_array_equal(scores.opposes, parity == 1)
    assert 0.2 < scores.opposes.mean() < 0.8


def test_a_reader_of_the_path_pays_ln_2_once(held_out: HeldOut) -> None:
    scores, values = scored(held_out, lambda k, b: 0.5 if k == 0 else 1.0)
    assert values["choice_loss/1"] == pytest.approx(LN2, abs=1e-5)
    assert values["choice_loss/2"] == values["choice_loss/3"] == pytest.approx(0, abs=1e-5)
    assert bit_auc(scores).estimate == 0.5


def test_a_model_that_knows_the_rule_pays_nothing_and_is_found_out(held_out: HeldOut) -> None:
    scores, values = scored(held_out, lambda k, b: 0.9)
    assert values["choice_loss/1"] == pytest.approx(-math.log(0.9), abs=1e-5)
    # The right node is the layer's parity if b = 0: the log-odds separate the bits.
    assert bit_auc(scores).estimate == 1.0
    wrong, _ = scored(held_out, lambda k, b: 0.1)
    assert bit_auc(wrong).estimate == 0.0


def test_a_model_that_favours_one_parity_rule_knows_no_bit(held_out: HeldOut) -> None:
    # It follows the layer's parity with .8 whatever b is: unfair guesses, and still no knowledge.
    scores, values = scored(held_out, lambda k, b: 0.2 if b else 0.8)
    share = scores.opposes.mean()
    assert bit_auc(scores._replace(log_odds=np.round(scores.log_odds, 3))).estimate == 0.5
    expected = -(1 - share) * math.log(0.8) - share * math.log(0.2)
    assert values["choice_loss/1"] == pytest.approx(expected, abs=1e-5)
    np.testing.assert_allclose(scores.log_odds, math.log(4), atol=1e-5)


def test_choice_loss_leaves_the_local_rule_out(held_out: HeldOut) -> None:
    _, values = scored(held_out, lambda k, b: 0.5, local=0.8)
    assert values["choice_loss/2"] == pytest.approx(LN2, abs=1e-5)
    assert values["loss/2"] == pytest.approx(LN2 - math.log(0.8), abs=1e-5)


@pytest.mark.long
def test_layers_add_up_to_the_kl_of_the_whole_response(held_out: HeldOut) -> None:
    # The same model through the evaluator that the training loop uses: its KL is the sum of the layers.
    model, params = prescribed(held_out, lambda k, b: (0.5, 0.7, 0.9)[k])
    score = DistributionEvaluator((3.0,), (1,)).score(model, held_out.task, params, _batch(held_out, 0))
    _, values = scored(held_out, lambda k, b: (0.5, 0.7, 0.9)[k])
    total = sum(values[f"loss/{k}"] for k in (1, 2, 3))
    assert total == pytest.approx(-math.log(0.5 * 0.7 * 0.9), abs=1e-4)
    np.testing.assert_allclose(-np.asarray(score["log_prob"])[:, 0], total, atol=1e-4)


def test_prompts_must_agree_in_their_branching_layers(everything: HeldOut) -> None:
    passable, response = paths(everything)
    with pytest.raises(ValueError, match=r"^passable: \[0, 3, 4\] branching layers a prompt"):
        branch_scores(np.zeros(passable.shape), passable, response)


@pytest.mark.parametrize(
    ("steps", "count", "expected"),
    [
        ([0, 10, 20, 30, 40], 3, [0, 20, 40]),
        ([0, 10, 20], 9, [0, 10, 20]),
        ([0, 10, 20], 1, [20]),
        ([50], 4, [50]),
        ([], 4, []),
    ],
)
def test_spread_is_even_and_keeps_the_last(steps: list[int], count: int, expected: list[int]) -> None:
    assert spread(steps, count) == expected
