"""Accuracy, diversity and cost of the responses of a decoder, per prompt."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Answers(NamedTuple):
    """`decoding.Decoded` on the host."""

    responses: Int[np.ndarray, "prompts samples response"]
    finished: Bool[np.ndarray, "prompts samples"]
    reward: Float[np.ndarray, "prompts samples"]
    queries: Int[np.ndarray, "prompts samples"]
    tokens: Int[np.ndarray, "prompts samples"]

    @property
    def correct(self) -> Bool[np.ndarray, "prompts samples"]:
        """True for finished responses with a positive reward."""
        return self.finished & (self.reward > 0)

    def within(self, budget: int) -> Answers:
        """Answers of these chains under a smaller budget of queries.

        A chain that needed more ends unfinished with `budget` queries. This is exact for decoders whose
        budget affects only the end of a chain.
        """
        over = self.queries > budget
        scale = np.minimum(1.0, budget / np.maximum(self.queries, 1))
        return self._replace(
            finished=self.finished & ~over,
            reward=np.where(over, 0.0, self.reward),
            queries=np.minimum(self.queries, budget),
            tokens=np.where(over, np.ceil(self.tokens * scale), self.tokens).astype(self.tokens.dtype),
        )


def distinct_correct(answers: Answers) -> Int[np.ndarray, " prompts"]:
    """Number of distinct correct responses among the samples of every prompt.

    This is the diversity of VGB, arXiv 2510.03149, section 5, for a given number of samples.
    """
    rows = zip(answers.responses, answers.correct, strict=True)
    return np.array([len({response.tobytes() for response in own[right]}) for own, right in rows])


def summaries(answers: Answers) -> dict[str, Float[np.ndarray, " prompts"]]:
    """Values per prompt: shares `accuracy` and `finished`, number `distinct`, means `queries` and `tokens`.

    `accuracy` is the share of correct samples, `distinct` the number of distinct correct responses; `queries`
    and `tokens` are means over samples.
    """
    return {
        "accuracy": answers.correct.mean(axis=1),
        "distinct": distinct_correct(answers).astype(np.float64),
        "finished": answers.finished.mean(axis=1),
        "queries": answers.queries.mean(axis=1),
        "tokens": answers.tokens.mean(axis=1),
    }
