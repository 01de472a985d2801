"""Laws of token sequences by enumeration, in plain Python: log ratio and KL along every sequence."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

Next = Callable[[tuple[int, ...]], Sequence[float]]
"""Probabilities of the next token after a prefix."""


class Weighed(NamedTuple):
    """One sequence: pi_D(y), ln pi_D(y)/pi_hat(y), sums of token-level KL and squared Hellinger distance."""

    mass: float
    log_ratio: float
    kl_along: float
    hellinger_along: float


def enumerated(data: Next, model: Next, horizon: int, vocabulary: int) -> list[Weighed]:
    """All sequences of positive probability under `data`."""
    found = []
    for tokens in itertools.product(range(vocabulary), repeat=horizon):
        mass, log_ratio, along, hellinger = 1.0, 0.0, 0.0, 0.0
        for h in range(horizon):
            p, q = data(tokens[:h]), model(tokens[:h])
            along += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
            hellinger += sum((math.sqrt(a) - math.sqrt(b)) ** 2 for a, b in zip(p, q, strict=True)) / 2
            mass *= p[tokens[h]]
            if mass == 0:
                break
            log_ratio += math.log(p[tokens[h]] / q[tokens[h]])
        if mass > 0:
            found.append(Weighed(mass, log_ratio, along, hellinger))
    return found
