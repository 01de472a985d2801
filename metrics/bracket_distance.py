"""Confidence in the correct close bracket, by distance to the open one (Hewitt et al. 2020)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from metrics.evaluators import Batch, Evaluator, HeldOut
from models import Model, Params
from tasks import BracketTask, Task
from tasks.checks import real


@dataclasses.dataclass(frozen=True)
class BracketDistance(Evaluator):
    """Share of states in which P(correct close) / P(any close) > threshold, by distance.

    Attributes:
        threshold: strictly between 0 and 1; 0.8 in Hewitt et al. 2020, "RNNs can generate bounded
            hierarchical languages with optimal memory".

    A state is any token of a held-out response before which a bracket is open. The distance d is the number
    of positions since the innermost open bracket, which may be in the prompt; it is odd, because the string
    between is balanced. The correct close bracket has the type of the innermost open bracket. Names, for the
    mixture and, if there are several classes, below `<class>/`: `close_confidence/<d>` by distances 1, 3,
    5-7, 9-15, ... (doubling ranges; ranges without a state are omitted), and `close_confidence/mean`, the
    unweighted mean over single distances.
    """

    threshold: float = 0.8
    name: str = dataclasses.field(default="bracket_distance", init=False)

    def __post_init__(self) -> None:
        real("evaluation.extra.threshold", self.threshold, above=0, below=1)

    def check(self, task: Task) -> None:
        """Refuse a task without brackets.

        Raises:
            ValueError: naming the task.
        """
        if not isinstance(task, BracketTask):
            raise ValueError(
                f"evaluation.extra: BracketDistance needs a task on brackets (dyck, fixed_dyck), not "
                f"{type(task).__name__}"
            )

    def score(self, model: Model, task: Task, params: Params, batch: Batch) -> dict[str, Array]:
        """`states` and `confident`, (examples, distances): counts of states at distance 2 i + 1.

        `confident` counts the states where the model is confident of the correct bracket.
        """
        assert isinstance(task, BracketTask)
        example = batch.example
        # Where the candidate is the response, passing the array of the exact evaluator shares one forward
        # pass.
        responses = example.response[:, None] if task.num_enumerated else batch.candidates.responses
        logits = model.logits(params, example.prompt, example.prompt_mask, responses)[:, 0]
        distance, close = jax.vmap(task.innermost)(example.latent, example.response)
        closes = task.text.close_token(jnp.arange(task.num_types))
        correct = jnp.take_along_axis(logits, close[..., None], axis=-1)[..., 0]
        share = correct - jax.nn.logsumexp(logits[..., closes], axis=-1)
        # The largest distance is from the last position of the response to the first of the string.
        places = jnp.arange(1, task.prompt_length + task.response_length, 2)
        states = distance[..., None] == places
        confident = states & (share > math.log(self.threshold))[..., None]
        return {"states": jnp.sum(states, axis=1), "confident": jnp.sum(confident, axis=1)}

    def reduce(self, scores: dict[str, np.ndarray], held_out: HeldOut) -> Iterator[tuple[str, float]]:
        """Shares for the mixture, then per class."""
        yield from self._shares(scores, held_out.weights)
        if len(held_out.task.groups) > 1:
            for group, name in enumerate(held_out.task.groups):
                weights = (held_out.groups == group).astype(np.float64)
                for key, value in self._shares(scores, weights):
                    yield f"{name}/{key}", value

    def _shares(
        self, scores: dict[str, np.ndarray], weights: Float[np.ndarray, " examples"]
    ) -> Iterator[tuple[str, float]]:
        states = weights @ np.asarray(scores["states"], np.float64)
        confident = weights @ np.asarray(scores["confident"], np.float64)
        distances = 2 * np.arange(states.size) + 1
        for low, high in ranges(int(distances[-1])):
            inside = (distances >= low) & (distances <= high)
            if states[inside].sum() > 0:
                label = str(low) if low == high else f"{low}-{high}"
                yield f"close_confidence/{label}", float(confident[inside].sum() / states[inside].sum())
        there = states > 0
        if there.any():
            yield "close_confidence/mean", float(np.mean(confident[there] / states[there]))


def ranges(longest: int) -> Iterator[tuple[int, int]]:
    """Odd distances up to `longest` in doubling ranges (1, 1), (3, 3), (5, 7), (9, 15), ...

    >>> list(ranges(20))
    [(1, 1), (3, 3), (5, 7), (9, 15), (17, 31)]
    """
    low, high = 1, 1
    while low <= longest:
        yield low, high
        low, high = high + 2, 2 * high + 1
