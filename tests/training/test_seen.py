"""KL and coverage of the training batches, against the evaluator's definitions on the same examples."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.toy import TabularModel, ToyTask, fuse_step

from metrics.candidates import Candidates
from metrics.coverage import coverage_profile, log_density_ratio, weighted_mean
from metrics.divergence import kl
from metrics.evaluators import Batch, DistributionEvaluator, make_held_out
from tasks import stream
from tracking import ListSink
from training import CrossEntropy, EvaluationSchedule, Objective, Phase, Reweighted, Trainer, step
from training.feed import batch_of_step

NS = (2, 16, 64)
EXACT = DistributionEvaluator(coverage_ns=NS, pass_ns=(1,))
MODEL = TabularModel()
SEED = 3


@dataclasses.dataclass(frozen=True)
class Mixed(ToyTask):
    """A toy whose pi_D gives the class's response its probability in the mixture."""

    easy: float = 0.6

    def log_prob(self, latent: Any, response: Any) -> Any:
        found = super().log_prob(latent, response)
        return found + jnp.log(jnp.asarray(self.group_probs))[latent.group]


def expected(phase: Phase, steps: range) -> tuple[float, list[float]]:
    """KL and coverage of the batches of `steps` under the first parameters, by the evaluator."""
    params = MODEL.init(stream(SEED, "init"))
    ratios, weights = [], []
    for index in steps:
        example = batch_of_step(phase, jnp.uint32(SEED), jnp.int32(index))
        only = jnp.ones((phase.batch_size, 1))
        found = Candidates(
            example.response[:, None], example.response_mask[:, None], example.log_prob[:, None], only, only
        )
        scores = EXACT.score(MODEL, phase.task, params, Batch(example, found, np.arange(phase.batch_size)))
        ratios.append(log_density_ratio(example.log_prob, scores["log_prob"][:, 0]))
        weights.append(np.asarray(phase.class_weights or (1.0, 1.0))[np.asarray(example.group)])
    ratio, weight = np.concatenate(ratios), np.concatenate(weights)
    # Unbiased: divided by the number of responses, not by the sum of their weights.
    scale = weight.mean()
    return float(kl(ratio, weight)) * scale, (coverage_profile(ratio, NS, weight) * scale).tolist()


@pytest.mark.long
@pytest.mark.parametrize(
    ("objective", "proposal", "part"),
    [(CrossEntropy(), None, 10), (Reweighted(), {"easy": 0.3, "hard": 0.7}, 1000)],
    ids=["mean of parts", "weighted, by class"],
)
def test_training_records_hold_kl_and_coverage_of_the_batches(
    monkeypatch: pytest.MonkeyPatch, objective: Objective, proposal: dict[str, float] | None, part: int
) -> None:
    monkeypatch.setattr(step, "TOKENS_OF_A_PART", part)
    # A learning rate of 0, so that all batches meet the first parameters.
    phase = Phase(
        "only",
        Mixed(),
        objective,
        fuse_step(0.0),
        3,
        8,
        None,
        EvaluationSchedule(every=3, start=False),
        2,
        proposal,
    )
    sink = ListSink()
    Trainer(MODEL, [phase], [SEED], [EXACT], [make_held_out(Mixed(), 4, 4, 0)], sink).run()
    records = {record["step"]: record for record in sink.records}
    for last, steps in ((2, range(2)), (3, range(2, 3))):
        wanted_kl, wanted_coverage = expected(phase, steps)
        found = [records[last][f"train/cov/{n}"] for n in NS]
        assert records[last]["train/kl"] == pytest.approx(wanted_kl, rel=1e-5)
        assert found == pytest.approx(wanted_coverage, abs=1e-6)
    assert 0 < records[2]["train/cov/64"] < records[2]["train/cov/16"]
    if proposal is None:
        # Cross-entropy is KL plus the entropy, here E[-ln pi_D] of the drawn responses.
        drawn = [batch_of_step(phase, jnp.uint32(SEED), jnp.int32(i)).log_prob for i in range(2)]
        entropy = -float(weighted_mean(np.concatenate(drawn)))
        assert records[2]["train/loss"] == pytest.approx(records[2]["train/kl"] + entropy, rel=1e-5)
        assert entropy > 0.1


def test_a_ratio_of_exactly_n_counts_despite_rounding() -> None:
    from training.seen import seen_in
    from training.sources import TrainingBatch

    log_pi = jnp.log(jnp.asarray([[0.7], [0.7]], jnp.float32))
    none: Any = jnp.zeros((2, 1))
    batch = TrainingBatch(
        none, none, none[..., None], none[..., None], jnp.zeros(2, int), None, log_pi=log_pi
    )
    found = jax.jit(lambda p: seen_in(batch, p, (3.0, 3.1), None))(
        log_pi - math.log(3) + jnp.asarray([[0.0], [2e-6]])
    )
    assert found.coverage.tolist() == [1.0, 0.0]
    assert float(found.kl) == pytest.approx(math.log(3), abs=1e-5)
