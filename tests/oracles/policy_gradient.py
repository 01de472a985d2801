"""Policy gradients in plain NumPy for a table of logits, written from the papers' formulas."""

import math
from collections.abc import Sequence

import numpy as np


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def group_advantages(rewards: Sequence[float], leave_one_out: bool, by_std: bool) -> list[float]:
    """One prompt's group, response by response."""
    if len(set(rewards)) == 1:
        return [0.0] * len(rewards)
    found = []
    for i, reward in enumerate(rewards):
        others = [r for j, r in enumerate(rewards) if j != i or not leave_one_out]
        found.append(reward - sum(others) / len(others))
    if by_std:
        mean = sum(rewards) / len(rewards)
        std = math.sqrt(sum((r - mean) ** 2 for r in rewards) / len(rewards))
        found = [a / (std + 1e-6) for a in found]
    return found


def gradient(
    table: np.ndarray,
    old: np.ndarray,
    reference: np.ndarray,
    rows: Sequence[int],
    responses: np.ndarray,
    rewards: np.ndarray,
    *,
    leave_one_out: bool,
    by_std: bool,
    by_token: bool,
    by_length: bool,
    clip: float | None,
    kl_weight: float,
    kl: str,
) -> tuple[float, np.ndarray]:
    """Mean loss over all responses and its gradient in the table (row, position, token).

    `rows` says which row each prompt reads; `responses` is (prompts, samples, positions), without padding.
    """
    total, slope = 0.0, np.zeros_like(table)
    count = responses.shape[0] * responses.shape[1]
    length = responses.shape[2]
    for row, group, earned in zip(rows, responses, rewards, strict=True):
        now, then, base = (np.log(softmax(each[row])) for each in (table, old, reference))
        place = range(length)
        if kl == "reward":
            earned = [
                r - kl_weight * sum(then[t, y[t]] - base[t, y[t]] for t in place)
                for r, y in zip(earned, group, strict=True)
            ]
        found = group_advantages([float(r) for r in earned], leave_one_out, by_std)
        for advantage, response in zip(found, group, strict=True):
            scale = 1 / length if by_length else 1.0
            ratios = [math.exp(now[t, response[t]] - then[t, response[t]]) for t in place]
            if not by_token:
                ratios = [math.prod(ratios)] * length
            for t in place:
                # d ln pi(y_t) / d logits = onehot - pi
                score = np.eye(table.shape[2])[response[t]] - np.exp(now[t])
                part = scale if by_token else 1.0
                ratio, low, high = ratios[t], 1 - (clip or math.inf), 1 + (clip or math.inf)
                cut = min(max(ratio, low), high)
                worth = min(ratio * advantage, cut * advantage)
                total -= worth * (part if by_token else 1 / length) / count
                if ratio * advantage <= cut * advantage:
                    slope[row, t] -= part * advantage * ratio * score / count
                gap = base[t, response[t]] - now[t, response[t]]
                if kl == "k3":
                    total += kl_weight * scale * (math.exp(gap) - gap - 1) / count
                    slope[row, t] += kl_weight * scale * (1 - math.exp(gap)) * score / count
                if kl == "exact":
                    apart = now[t] - base[t]
                    mean = float(np.exp(now[t]) @ apart)
                    total += kl_weight * scale * mean / count
                    slope[row, t] += kl_weight * scale * np.exp(now[t]) * (apart - mean) / count
    return total, slope
