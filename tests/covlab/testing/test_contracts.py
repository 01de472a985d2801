"""The contracts of covlab.testing pass what keeps its promises, and name the promise that is broken."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from oracles.flax_modules import GRU
from oracles.toy import TabularModel, ToyTask

from covlab.testing import model_contract, objective_contract, task_contract
from covlab.testing.objectives import SIZES, ObjectiveTests
from training import (
    DCO,
    ConfidencePenalty,
    CrossEntropy,
    DynamicFineTuning,
    LabelSmoothing,
    LossChange,
    MultiToken,
    Objective,
    OnPolicyDistillation,
    Paced,
    PolicyGradient,
    Reweighted,
    Scores,
    StepwiseDCO,
    TailSFT,
    TokenLevel,
    TruncatedDistillation,
    ValueRegression,
)

OBJECTIVES = (
    *(CrossEntropy(), DCO(4), StepwiseDCO(4), Reweighted(), Reweighted(favour="easy", gamma=0.5)),
    *(LabelSmoothing(), ConfidencePenalty(), TruncatedDistillation(), ValueRegression(), MultiToken(k=3)),
    *(TruncatedDistillation(labels="laws"), TruncatedDistillation(n=None), TokenLevel()),
    *(OnPolicyDistillation(), PolicyGradient(), CrossEntropy(prompt_weight=1.0, normalisation="token")),
    *(TailSFT(), LossChange(temperature=10.0), Paced(), DynamicFineTuning()),
)
PROMISES = (
    "test_it_is_a_static_argument",
    "test_a_finite_loss_per_sequence",
    "test_gradients_are_finite_and_0_at_padding",
    "test_padding_has_no_effect",
    "test_a_sequence_has_a_loss_of_its_own",
)

TestToyTask = task_contract(ToyTask())
TestTabularModel = model_contract(TabularModel, ToyTask())
# Modules of Flax: a class is enough.
TestBfloat16 = model_contract(GRU, ToyTask(), dtype=jnp.bfloat16)


TestOurs = type(
    "TestOurs",
    (ObjectiveTests,),
    {"pytestmark": [pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda each: type(each).__name__)]},
)


def broken(objective: Objective) -> set[str]:
    """The promises that an objective breaks."""
    tests, failed = objective_contract(objective)(), set()
    for name in PROMISES:
        sizes = SIZES if name in PROMISES[1:3] else (None,)
        try:
            for size in sizes:
                getattr(tests, name)(objective, *([] if size is None else [size]))
        except AssertionError:
            failed.add(name)
    return failed


@dataclasses.dataclass(frozen=True)
class Padded(Objective):
    """Looks at padding: it undoes the mask."""

    def losses(self, scores: Scores) -> Any:
        return -jnp.sum(scores.tokens, axis=-1)

    def __call__(self, scores: Scores) -> Any:
        return self.losses(scores)


@dataclasses.dataclass(frozen=True)
class Centred(Objective):
    """Subtracts the mean over the batch."""

    def losses(self, scores: Scores) -> Any:
        return jnp.mean(scores.log_probs) - scores.log_probs


@dataclasses.dataclass(frozen=True)
class Inverse(Objective):
    """1/p overflows."""

    def losses(self, scores: Scores) -> Any:
        return jnp.exp(-scores.log_probs)


@pytest.mark.parametrize(
    ("objective", "promises"),
    [
        (Padded(), {PROMISES[2], PROMISES[3]}),
        (Centred(), {PROMISES[4]}),
        (Inverse(), {PROMISES[1], PROMISES[2]}),
    ],
    ids=["padded", "centred", "inverse"],
)
def test_a_broken_promise_of_an_objective_is_named(objective: Objective, promises: set[str]) -> None:
    assert broken(objective) == promises


@dataclasses.dataclass(frozen=True)
class Frozen(TabularModel):
    """Its logits do not depend on its parameters, and `step` has others."""

    def logits(self, params: Any, prompt: Any, prompt_mask: Any, responses: Any) -> Any:
        return jnp.zeros((*responses.shape, self.vocab_size)).at[..., 1].set(3.0)

    def start(self, params: Any, prompt: Any, prompt_mask: Any, num_samples: int) -> Any:
        return jnp.zeros((prompt.shape[0], num_samples, self.response_length, self.vocab_size))


def test_a_broken_promise_of_a_model_is_named() -> None:
    task = ToyTask()
    model = Frozen(task.vocab_size, task.prompt_length, task.response_length)
    tests = model_contract(Frozen, task)()
    with pytest.raises(AssertionError):
        tests.test_samples_have_the_probabilities_that_the_model_gives_them(model, task)
    with pytest.raises(AssertionError, match="no parameter has an effect"):
        tests.test_seeds_train_side_by_side(model, task)
    with pytest.raises(ValueError, match=r"^model: Frozen\.step gives other logits"):
        tests.test_it_predicts_from_earlier_tokens_and_samples_what_it_scores(model, task)


def test_an_instance_with_too_many_sequences_is_refused() -> None:
    @dataclasses.dataclass(frozen=True)
    class Long(ToyTask):
        response_length = 12

    with pytest.raises(
        ValueError, match=r"^Long: 2176782336 sequences; valid: an instance with at most 200000$"
    ):
        task_contract(Long())


def test_oracles_are_asked_where_they_are_given() -> None:
    """ToyTask's prompts show their class, so that the right oracle is 0 or 1."""

    def right(prompt: str, response: Any) -> float:
        *_, group, word = (int(each) for each in prompt.split())
        return float(list(response) == [word, word if group == 3 else 3 - word])

    name = "test_probabilities_of_all_sequences_are_the_oracles_and_sum_to_one"
    for reward, fails in ((lambda prompt, _, response: right(prompt, response), False), (lambda *_: 1, True)):
        tests = task_contract(ToyTask(), right, reward)
        (small,) = (param.values[0] for param in tests.pytestmark[0].args[1])
        if fails:
            with pytest.raises(AssertionError):
                getattr(tests(), name)(small)
        else:
            getattr(tests(), name)(small)
    assert np.isfinite(small.probability("3 1", [1, 1]))
