"""KL and coverage of the law of test-time training, on held-out pairs of pi_D."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from decoding.base import Problem
from decoding.test_time_training import TestTimeTraining, ttt_log_probs
from decoding.walks import ModelPolicy
from metrics.coverage import check_ns, coverage_profile, name_of_n
from metrics.divergence import kl
from metrics.evaluators import Batch, Evaluator, HeldOut, log_ratios
from models import Model, Params
from tasks import Task


@dataclasses.dataclass(frozen=True)
class TestTimeEvaluator(Evaluator):
    """KL(pi_D || pi_TTT) and Cov_N of test-time training that begins at the parameters in each response.

    pi_TTT has the model's whole vocabulary, as the model's law in training and in `DistributionEvaluator`; at
    learning rate 0 the two agree.

    Attributes:
        learning_rate: eta >= 0 of every token's step on all parameters; no projection.
        coverage_ns: the N of Cov_N (real, >= 1).

    Names: `ttt_kl` (nats) and `ttt_cov/<N>`.

    Source: Coverage Principle, arXiv 2510.15020, section 6.1, equations 22 and 23.
    """

    __test__ = False  # pytest would collect the class by name

    learning_rate: float
    coverage_ns: Sequence[float] = (2, 4, 16)
    name: str = dataclasses.field(default="test_time_training", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "coverage_ns", tuple(self.coverage_ns))
        try:
            check_ns(tuple(self.coverage_ns))
        except ValueError:
            raise ValueError(
                f"coverage_ns: {list(self.coverage_ns)}; valid: numbers N >= 1, at least one"
            ) from None
        _ = self._rule

    @property
    def _rule(self) -> TestTimeTraining:
        return TestTimeTraining(self.learning_rate, parameters="all")

    def score(self, model: Model, task: Task, params: Params, batch: Batch) -> dict[str, Array]:
        """`ttt_log_prob` (examples, candidates): ln pi_TTT(y|x) in nats, -inf for rows of padding."""
        example, found, _ = batch
        policy = ModelPolicy(model, params, tuple(range(model.vocab_size)))
        depth = jnp.full(example.prompt.shape[:1], task.response_length)
        problem = Problem(example.prompt, example.prompt_mask, (), depth)
        tokens = ttt_log_probs(self._rule, policy, problem, found.responses, found.mask)
        known = jnp.any(found.mask, axis=-1)
        return {"ttt_log_prob": jnp.where(known, jnp.sum(tokens, axis=-1), -jnp.inf)}

    def reduce(self, scores: dict[str, np.ndarray], held_out: HeldOut) -> Iterator[tuple[str, float]]:
        """KL and coverage of the mixture."""
        joint = (held_out.weights[:, None] * held_out.candidate_weight).reshape(-1)
        ratio = log_ratios(np.asarray(scores["ttt_log_prob"], np.float64), held_out).reshape(-1)
        yield "ttt_kl", float(kl(ratio, joint))
        for n, value in zip(self.coverage_ns, coverage_profile(ratio, self.coverage_ns, joint), strict=True):
            yield f"ttt_cov/{name_of_n(n)}", float(value)
