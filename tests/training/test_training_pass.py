"""What the program reads of a model in training, and which model it evaluates."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from oracles.toy import TabularModel, ToyTask

from metrics.evaluators import DistributionEvaluator, make_held_out
from models import Forward, Model
from training import CrossEntropy, EvaluationSchedule, Phase, make_program
from training.batch_loss import batch_loss
from training.feed import responses_of_step

pytestmark = pytest.mark.long


@dataclasses.dataclass(frozen=True)
class Priced(TabularModel):
    """A table with a loss of its own, `price` for each real token of a response; sharper when evaluated."""

    price: float = 0.0
    sharp: float = 1.0

    def logits(self, params: Any, prompt: Any, prompt_mask: Any, responses: Any) -> Any:
        return self.sharp * super().logits(params, prompt, prompt_mask, responses)

    def training_pass(
        self, params: Any, prompt: Any, prompt_mask: Any, responses: Any, response_mask: Any, heads: int = 0
    ) -> Forward:
        penalty = self.price * jnp.sum(response_mask, axis=-1) * params["table"][0, 0, 0]
        return Forward(self.logits(params, prompt, prompt_mask, responses), (), penalty)

    @property
    def tested(self) -> Model:
        return dataclasses.replace(self, sharp=3.0)


TASK = ToyTask()
PHASE = Phase("p", TASK, CrossEntropy(), optax.sgd(0.1), 2, 4, None, EvaluationSchedule(), 2)


def test_a_models_own_loss_is_added_to_the_objectives() -> None:
    free, priced = Priced(), Priced(price=0.5)
    params = free.init(jax.random.key(0))
    batch = jax.jit(lambda: responses_of_step(PHASE, np.uint32(0), 0, 0, 1, (), None))()

    def found(model: Priced) -> Any:
        return jax.value_and_grad(lambda p: batch_loss(model, CrossEntropy(), p, batch))(params)

    (value, slope), (more, steeper) = found(free), found(priced)
    # Two real tokens in every response.
    assert float(more - value) == pytest.approx(float(params["table"][0, 0, 0]), rel=1e-5)
    added = steeper["table"] - slope["table"]
    assert float(added[0, 0, 0]) == pytest.approx(1.0, rel=1e-5)
    assert float(jnp.abs(added).sum()) == pytest.approx(1.0, rel=1e-5)


def test_the_program_evaluates_the_model_as_it_is_tested() -> None:
    held_out = make_held_out(TASK, 5, 4, 0)
    program = make_program(Priced(), PHASE, (DistributionEvaluator(),), held_out)
    params = program.init(jnp.asarray([0], jnp.uint32))
    found = program.score(params)["distribution"]["log_prob"][0]
    sharp = dataclasses.replace(Priced(), sharp=3.0)
    plain = make_program(sharp, PHASE, (DistributionEvaluator(),), held_out)
    np.testing.assert_allclose(found, plain.score(params)["distribution"]["log_prob"][0], rtol=1e-6)
    blunt = DistributionEvaluator().score(
        Priced(),
        TASK,
        jax.tree.map(lambda leaf: leaf[0], params),
        jax.tree.map(lambda x: x[0], held_out.batches),
    )
    assert np.abs(found[: len(blunt["log_prob"])] - blunt["log_prob"]).max() > 0.1
