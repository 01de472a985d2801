"""Evaluators: per-example scores on the device, then reduction to named numbers on the host.

An evaluator is one class with two methods. The training loop calls `score` inside the compiled program for
every seed and `reduce` with the resulting arrays; it does not know any metric by name.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from decoding import sample_responses
from metrics.candidates import Candidates, draw_examples
from metrics.coverage import check_ns, coverage_profile, log_density_ratio, name_of_n, weighted_mean
from metrics.divergence import check_coverage_bound, cross_entropy, kl
from metrics.pass_rates import pass_at_n, pass_at_n_unbiased
from metrics.prompt_metrics import PromptMetrics
from models import Model, Params, token_log_probs
from tasks import Example, Task, check_seed, stream
from tasks.checks import whole

BOUND_TOLERANCE = 1e-9
"""Tolerance for rounding in float64 of the bound of coverage by KL; a larger violation is a bug."""


class Batch(NamedTuple):
    """Batch of held-out examples to score; `position` is the index within the held-out set."""

    example: Example
    candidates: Candidates
    position: Array | np.ndarray


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """A fixed stratified held-out set: `per_group` examples of every class, in the stream "evaluation".

    Attributes:
        task: the task of the examples.
        batches: `Batch` pytrees with leading axes (batches, batch), on the device; repetitions pad the last
            batch beyond `num_examples`.
        num_examples: number of examples.
        groups: class of every example.
        log_pi, candidate_weight, correct: (examples, candidates) host arrays: exact ln pi_D(y|x); pi_D-weight
            of a candidate within the prompt (sums to 1); True if the reward is positive.
        enumerated: True if the candidates are all valid responses.
    """

    task: Task
    batches: Batch
    num_examples: int
    groups: np.ndarray
    log_pi: np.ndarray
    candidate_weight: np.ndarray
    correct: np.ndarray
    enumerated: bool

    @property
    def weights(self) -> np.ndarray:
        """Weights of the examples: class probability over class count; sum to 1."""
        return self.weights_of(np.ones(self.num_examples, bool))

    def weights_of(self, chosen: np.ndarray) -> np.ndarray:
        """Weights of the `chosen` examples (a mask): class probability over the class's count among them."""
        groups = self.groups[chosen]
        counts = np.bincount(groups, minlength=len(self.task.groups))
        return np.asarray(self.task.group_probs)[groups] / counts[groups]

    def parts(self) -> Iterator[tuple[str, np.ndarray]]:
        """(prefix of metrics' names, weights of examples) of the mixture, and of each of several classes."""
        yield "", self.weights
        names = self.task.groups if len(self.task.groups) > 1 else ()
        yield from ((f"{name}/", (self.groups == i).astype(np.float64)) for i, name in enumerate(names))

    def flat(self, tree: Any) -> Any:
        """`batches`, or arrays of equal leading axes, on the host: one row per example, without repetitions.

        The host avoids a compilation for every new shape of an array operation on the device.
        """
        return jax.tree.map(lambda a: np.asarray(a).reshape(-1, *a.shape[2:])[: self.num_examples], tree)


def make_held_out(
    task: Task,
    per_group: int,
    batch_size: int,
    seed: int,
    split: str = "held-out",
    draw: Callable[[Task, int, int, str], tuple[Example, Candidates]] = draw_examples,
) -> HeldOut:
    """The held-out set of `task`: what `draw` returns for these arguments, in batches on the device.

    Raises:
        ValueError: for sizes below 1 or a seed that `check_seed` refuses.
    """
    for field, value in (("num_examples", per_group), ("batch_size", batch_size)):
        whole(f"evaluation.{field}", value, 1)
    check_seed("evaluation.seed", seed)

    examples, found = draw(task, per_group, seed, split)
    total = per_group * len(task.groups)
    size = min(batch_size, total)
    index = np.resize(np.arange(total), (-(-total // size), size))
    return HeldOut(
        task=task,
        batches=jax.tree.map(
            lambda a: jax.device_put(a[index]),
            Batch(examples, found, np.arange(total, dtype=np.int32)),
        ),
        num_examples=total,
        groups=np.asarray(examples.group),
        log_pi=np.asarray(found.log_pi, np.float64),
        candidate_weight=np.asarray(found.weight, np.float64),
        correct=np.asarray(found.correct),
        enumerated=bool(task.num_enumerated),
    )


class Evaluator(abc.ABC):
    """One family of metrics. Implementations are frozen dataclasses."""

    name: str

    def check(self, task: Task) -> None:  # noqa: B027
        """Refuse a task that this evaluator cannot measure; called before any compilation.

        Raises:
            ValueError: the reason, in one line.
        """

    def given(self, base: Params) -> Evaluator:
        """This evaluator with the parameters of the run's base model; called inside the compiled program.

        Only evaluators that draw from the base model use it.
        """
        return self

    @abc.abstractmethod
    def score(self, model: Model, task: Task, params: Params, batch: Batch) -> dict[str, Array]:
        """Arrays whose leading axis is the examples of the batch; traced inside the compiled program."""

    @abc.abstractmethod
    def reduce(self, scores: dict[str, np.ndarray], held_out: HeldOut) -> Iterator[tuple[str, float]]:
        """(name, value) pairs from a seed's arrays, of `score` and `remembered`, over the held-out set."""

    def remembered(self, scores: dict[str, np.ndarray], held_out: HeldOut) -> dict[str, np.ndarray]:
        """Arrays (seeds, ...) of a phase's step 0 that later reductions need, from all seeds' scores; by
        default none. A run keeps them in `log_probs/`."""
        return {}

    def histograms(
        self, scores: dict[str, np.ndarray], held_out: HeldOut
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """(name, values, weights) of distributions to log, from the arrays of all seeds; none by default."""
        return iter(())


@dataclasses.dataclass(frozen=True)
class DistributionEvaluator(Evaluator):
    """Cross-entropy, KL, coverage profile, exact Pass@N, accuracy and validity, per mixture and class.

    Attributes:
        coverage_ns: the N of Cov_N (real, >= 1).
        pass_ns: the N of Pass@N (integers, >= 1).
        prompts: further metrics of the right responses, with their names; by default none.

    Names, for the mixture and, if there are several classes, below `<class>/`: `ce`, `kl` (nats), `cov/<N>`,
    `bound_excess` (largest Cov_N - E[X + e^-X - 1]/(ln N - 1 + 1/N), positive only by rounding) and
    `accuracy` (share of correct greedy responses). If the valid responses are enumerated, also `pass/<N>` =
    E[1 - (1 - p)^N] with p the total probability of correct responses, and `validity`, the total probability
    of valid responses.
    """

    coverage_ns: Sequence[float] = (2, 3, 4, 4.6, 5.7)
    pass_ns: Sequence[int] = (1, 4, 8, 12)
    prompts: PromptMetrics = dataclasses.field(default_factory=PromptMetrics)
    name: str = dataclasses.field(default="distribution", init=False)

    def __post_init__(self) -> None:
        for field in ("coverage_ns", "pass_ns"):
            values = tuple(getattr(self, field))
            try:
                check_ns(values)
            except ValueError:
                raise ValueError(
                    f"evaluation.{field}: {list(values)}; valid: numbers N >= 1, at least one"
                ) from None
            object.__setattr__(self, field, values)
        if any(n != int(n) for n in self.pass_ns):
            raise ValueError(f"evaluation.pass_ns: {list(self.pass_ns)}; valid: whole numbers N >= 1")

    def score(self, model: Model, task: Task, params: Params, batch: Batch) -> dict[str, Array]:
        """`log_prob` (examples, candidates) in nats, and `greedy`: True for the greedy response."""
        example, found, _ = batch
        logits = model.logits(params, example.prompt, example.prompt_mask, found.responses)
        log_probs = jnp.sum(jnp.where(found.mask, token_log_probs(logits, found.responses), 0.0), axis=-1)
        # Rows of padding up to the static number of candidates have probability 0.
        log_probs = jnp.where(jnp.any(found.mask, axis=-1), log_probs, -jnp.inf)
        # y is the greedy response if and only if every token of y is the most likely one given the earlier
        # ones.
        hit = (jnp.argmax(logits, axis=-1) == found.responses) | ~found.mask
        return {"log_prob": log_probs, "greedy": jnp.all(hit, axis=-1)}

    def reduce(self, scores: dict[str, np.ndarray], held_out: HeldOut) -> Iterator[tuple[str, float]]:
        """All metrics for the mixture, then per class."""
        log_prob = np.asarray(scores["log_prob"], np.float64)
        greedy = np.asarray(scores["greedy"])
        log_correct = correct_log_prob(log_prob, held_out) if held_out.enumerated else None
        for prefix, weights in held_out.parts():
            for key, value in self._metrics(log_prob, log_correct, greedy, held_out, weights):
                yield f"{prefix}{key}", value
        # What is undefined is absent: a NaN would be drawn.
        yield from ((key, v) for key, v in self.of_the_set(scores, held_out) if not np.isnan(v))

    def remembered(self, scores: dict[str, np.ndarray], held_out: HeldOut) -> dict[str, np.ndarray]:
        """`start`, (seeds, examples): ln p of the right responses, for the coverage ratio."""
        wanted = held_out.enumerated and self.prompts.ratio_ns
        return {"start": correct_log_prob(scores["log_prob"], held_out)} if wanted else {}

    def of_the_set(self, scores: dict[str, np.ndarray], held_out: HeldOut) -> Iterator[tuple[str, float]]:
        """(name, value) of the metrics of `prompts` that are no means over prompts; NaN where undefined."""
        right = np.where(held_out.correct, held_out.candidate_weight, 0.0)
        now = correct_log_prob(scores["log_prob"], held_out) if "start" in scores else None
        for prefix, weights in held_out.parts():
            found = list(self.prompts.likelihoods(scores["log_prob"], weights[:, None] * right))
            found += [] if now is None else self.prompts.ratios(scores["start"], now, weights)
            yield from ((f"{prefix}{key}", value) for key, value in found)

    def histograms(
        self, scores: dict[str, np.ndarray], held_out: HeldOut
    ) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Empirical distribution of X = ln(pi_D/pi_hat) under pi_D, over all seeds."""
        joint = held_out.weights[:, None] * held_out.candidate_weight
        values = log_ratios(scores["log_prob"], held_out)
        weights = np.broadcast_to(joint / values.shape[0], values.shape)
        kept = (weights > 0) & np.isfinite(values)
        yield "log_ratio", values[kept], weights[kept]

    def _metrics(
        self,
        log_prob: Float[np.ndarray, "examples candidates"],
        log_correct: Float[np.ndarray, " examples"] | None,
        greedy: np.ndarray,
        held_out: HeldOut,
        weights: Float[np.ndarray, " examples"],
    ) -> Iterator[tuple[str, float]]:
        joint = (weights[:, None] * held_out.candidate_weight).reshape(-1)
        log_ratio = log_ratios(log_prob, held_out).reshape(-1)
        yield "ce", float(cross_entropy(log_prob.reshape(-1), joint))
        yield "kl", float(kl(log_ratio, joint))
        profile = coverage_profile(log_ratio, self.coverage_ns, joint)
        for n, value in zip(self.coverage_ns, profile, strict=True):
            yield f"cov/{name_of_n(n)}", float(value)
        yield "bound_excess", check_coverage_bound(log_ratio, self.coverage_ns, joint)
        greedy_correct = np.any(greedy & held_out.correct, axis=1).astype(np.float64)
        yield "accuracy", float(weighted_mean(greedy_correct, weights))
        if log_correct is not None:
            passes = pass_at_n(log_correct, self.pass_ns)
            for n, value in zip(self.pass_ns, weighted_mean(passes.T, weights), strict=True):
                yield f"pass/{name_of_n(n)}", float(value)
            yield "validity", float(weighted_mean(total_prob(log_prob), weights))
            for name, values in self.prompts.by_prompt(log_correct):
                yield name, float(weighted_mean(values, weights))


@dataclasses.dataclass(frozen=True)
class SamplingEvaluator(Evaluator):
    """Sampling estimates of the exact metrics, from responses of the model scored by the task.

    Attributes:
        num_samples: responses per held-out prompt, drawn with the same random numbers at every evaluation.
        pass_ns: the N of Pass@N; N above `num_samples` have no unbiased estimate and are omitted.
        seed: seed of the sampling stream.
        stride: responses are sampled to the first of every `stride` prompts of a batch, for an evaluation
            that costs 1/`stride`.

    Names: `sampled_pass/<N>`, the unbiased 1 - C(n-c, N)/C(n, N), and `sampled_validity`.
    """

    num_samples: int = 16
    pass_ns: Sequence[int] = (1, 4, 8, 12)
    seed: int = 0
    stride: int = 1
    name: str = dataclasses.field(default="sampling", init=False)

    def __post_init__(self) -> None:
        whole("evaluation.num_samples", self.num_samples, 1)
        whole("stride", self.stride, 1)
        object.__setattr__(self, "pass_ns", tuple(n for n in self.pass_ns if n <= self.num_samples))
        if not self.pass_ns:
            raise ValueError(
                f"evaluation.num_samples: {self.num_samples!r} is below every N of evaluation.pass_ns"
            )

    def score(self, model: Model, task: Task, params: Params, batch: Batch) -> dict[str, Array]:
        """`num_correct` and `num_valid` among the samples of every prompt; -1 for one without samples."""
        example = jax.tree.map(lambda leaf: leaf[:: self.stride], batch.example)
        key = stream(self.seed, "evaluation", "samples", batch.position[0])
        responses, _ = sample_responses(
            model, params, example.prompt, example.prompt_mask, key, self.num_samples
        )
        responses = jax.vmap(jax.vmap(task.trimmed, (None, 0)))(example.latent, responses)

        def count(judge: Callable[[Any, Array], Array]) -> Array:
            counts = jnp.sum(jax.vmap(jax.vmap(judge, (None, 0)))(example.latent, responses) > 0, axis=1)
            if self.stride == 1:
                return counts
            return jnp.full(batch.position.shape, -1, counts.dtype).at[:: self.stride].set(counts)

        return {"num_correct": count(task.reward), "num_valid": count(task.validity)}

    def reduce(self, scores: dict[str, np.ndarray], held_out: HeldOut) -> Iterator[tuple[str, float]]:
        """Stratified means over the prompts with samples."""
        asked = scores["num_correct"] >= 0
        weights = held_out.weights_of(asked)
        passes = pass_at_n_unbiased(self.num_samples, scores["num_correct"][asked], self.pass_ns)
        for n, value in zip(self.pass_ns, weighted_mean(passes.T, weights), strict=True):
            yield f"sampled_pass/{name_of_n(n)}", float(value)
        valid = scores["num_valid"][asked] / self.num_samples
        yield "sampled_validity", float(weighted_mean(valid, weights))


def log_ratios(
    log_prob: Float[np.ndarray, "*seeds examples candidates"], held_out: HeldOut
) -> Float[np.ndarray, "*seeds examples candidates"]:
    """X = ln pi_D(y|x) - ln pi_hat(y|x) in nats; -inf where pi_D = 0, with weight 0."""
    return log_density_ratio(held_out.log_pi, log_prob)


def correct_log_prob(
    log_prob: Float[np.ndarray, "*seeds examples candidates"], held_out: HeldOut
) -> Float[np.ndarray, "*seeds examples"]:
    """ln of the model's total probability of correct responses, per prompt."""
    return np.logaddexp.reduce(np.where(held_out.correct, np.asarray(log_prob, np.float64), -np.inf), axis=-1)


def total_prob(log_prob: Float[np.ndarray, "*batch candidates"]) -> Float[np.ndarray, "*batch"]:
    """The model's total probability of the candidates of a prompt, clipped at 1 because of rounding."""
    return np.minimum(np.exp(np.asarray(log_prob, np.float64)).sum(axis=-1), 1.0)
