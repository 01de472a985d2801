"""One training problem as plain arrays, with equal parameters, batches and settings for every framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Layout = Literal["left", "right"]


@dataclass(frozen=True)
class Problem:
    """Model, data and optimizer of a training problem.

    Attributes:
        vocab_size, prompt_length, response_length, num_layers, num_heads, width, mlp_ratio: sizes of the GPT.
        parameters: name, with "/" between levels, -> initial value; matrices are (fan in, fan out).
        batches: batches of consecutive steps, as `prompt`, `prompt_mask`, `response`, `response_mask`.
        learning_rate, weight_decay, beta1, beta2, epsilon: settings of AdamW with a constant rate. Biases and
            the norms' gains are not decayed.
    """

    vocab_size: int
    prompt_length: int
    response_length: int
    num_layers: int
    num_heads: int
    width: int
    mlp_ratio: int
    parameters: dict[str, Float[np.ndarray, "..."]]
    batches: tuple[dict[str, np.ndarray], ...]
    learning_rate: float
    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float

    @property
    def length(self) -> int:
        """Input tokens of a sequence: the prompt and the response without its last token."""
        return self.prompt_length + self.response_length - 1


class Sequences(NamedTuple):
    """Inputs of a language model for a batch. Outputs at `places` predict `target`; T = P + R - 1.

    `mask` marks the keys that a query may see; None stands for the plain causal mask.
    """

    tokens: Int[np.ndarray, "batch length"]
    positions: Int[np.ndarray, "batch length"]
    mask: Bool[np.ndarray, "batch 1 length length"] | None
    places: Int[np.ndarray, "batch response"]
    target: Int[np.ndarray, "batch response"]
    target_mask: Bool[np.ndarray, "batch response"]


def sequences(batch: dict[str, np.ndarray], layout: Layout) -> Sequences:
    """The sequences of a batch. With padding on the left, all responses begin at one position and padding is
    masked. With padding on the right, responses begin after the prompt, and the causal mask is enough."""
    prompt, prompt_mask, response = batch["prompt"], batch["prompt_mask"], batch["response"]
    count, steps = prompt.shape[1], np.arange(response.shape[1])
    tokens = np.concatenate([prompt, response[:, :-1]], axis=1)
    padding = count - prompt_mask.sum(axis=1)
    place = np.arange(tokens.shape[1])
    targets = response.astype(np.int64), batch["response_mask"]
    if layout == "right":
        source = np.minimum(place + padding[:, None], tokens.shape[1] - 1)
        shifted = np.take_along_axis(tokens, source, axis=1)
        positions = np.broadcast_to(place, tokens.shape)
        places = (count - 1 - padding)[:, None] + steps
        return Sequences(shifted.astype(np.int64), positions.copy(), None, places, *targets)
    positions = np.maximum(place - padding[:, None], 0)
    real = place >= padding[:, None]
    # Padding sees itself, because a softmax over no key has no value; nothing else sees padding.
    mask = (place[:, None] >= place) & (real[:, None, :] | np.eye(len(place), dtype=bool))
    places = np.broadcast_to(count - 1 + steps, response.shape).copy()
    return Sequences(tokens.astype(np.int64), positions, mask[:, None], places, *targets)
