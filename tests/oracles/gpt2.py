"""GPT-2's forward pass (Radford et al. 2019) in NumPy float64: one sequence, no padding, no cache."""

import math
from typing import Any

import numpy as np


def norm(layer: Any, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * layer["scale"] + layer["bias"]


def linear(layer: Any, x: np.ndarray) -> np.ndarray:
    return x @ layer["kernel"] + layer["bias"]


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def forward(params: Any, tokens: list[int], num_heads: int) -> np.ndarray:
    """Logits after each of the tokens, (tokens, vocab); `params` are float64 arrays."""
    x = params["token"][tokens] + params["position"][: len(tokens)]
    length, width = x.shape
    size = width // num_heads
    for block in params["blocks"]:
        query, key, value = np.split(
            linear(block["query_key_value"], norm(block["attention_norm"], x)), 3, axis=1
        )
        mixed = np.zeros_like(x)
        for head in range(num_heads):
            part = slice(head * size, (head + 1) * size)
            for i in range(length):
                scores = key[: i + 1, part] @ query[i, part] / math.sqrt(size)
                weights = np.exp(scores - scores.max())
                mixed[i, part] = weights / weights.sum() @ value[: i + 1, part]
        x = x + linear(block["attention_out"], mixed)
        x = x + linear(block["mlp_out"], gelu(linear(block["mlp_in"], norm(block["mlp_norm"], x))))
    table = params.get("output", params["token"])
    return norm(params["final_norm"], x) @ table.T


def log_probs(logits: np.ndarray) -> np.ndarray:
    """ln softmax over the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
