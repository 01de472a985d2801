"""Recurrent language models in NumPy float64: one sequence, one token after the other."""

from typing import Any

import numpy as np


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm(params: Any, tokens: list[int]) -> np.ndarray:
    """Logits after each token, (tokens, vocab)."""
    xs = params["embedding"]["embedding"][tokens]
    for layer in range(len(params["layers"])):
        cell = params["layers"][layer]["cell"]
        c = h = np.zeros(xs.shape[1])
        outputs = []
        for x in xs:
            gates = x @ cell["dense_i"]["kernel"] + h @ cell["dense_h"]["kernel"] + cell["dense_h"]["bias"]
            i, f, g, o = np.split(gates, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        xs = np.stack(outputs)
    return xs @ params["output"]["kernel"]


def gru(params: Any, tokens: list[int]) -> np.ndarray:
    """Logits after each token, (tokens, vocab)."""
    xs = params["embedding"]["embedding"][tokens]
    for layer in range(len(params["layers"])):
        cell = params["layers"][layer]["cell"]
        h = np.zeros(xs.shape[1])
        outputs = []
        for x in xs:
            r, z, n = np.split(x @ cell["dense_i"]["kernel"] + cell["dense_i"]["bias"], 3)
            hr, hz, hn = np.split(h @ cell["dense_h"]["kernel"], 3)
            r, z = sigmoid(r + hr), sigmoid(z + hz)
            h = (1 - z) * np.tanh(n + r * hn) + z * h
            outputs.append(h)
        xs = np.stack(outputs)
    return xs @ params["output"]["kernel"]


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def norm(layer: Any, x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x**2) + 1e-5) * layer["scale"]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def transition(key: np.ndarray, beta: float) -> np.ndarray:
    """I - beta k k^T."""
    return np.eye(len(key)) - beta * np.outer(key, key)


def delta_rule(
    state: np.ndarray, query: np.ndarray, keys: np.ndarray, values: np.ndarray, betas: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """One head: query (length, key), keys (length, steps, key), values, betas (length, steps).
    Returns the last state and the outputs."""
    outputs = []
    for q, token_keys, token_values, token_betas in zip(query, keys, values, betas, strict=True):
        for k, v, beta in zip(token_keys, token_values, token_betas, strict=True):
            state = state @ transition(k, beta) + beta * np.outer(v, k)
        outputs.append(state @ q)
    return state, np.stack(outputs)


def delta_product(
    params: Any, tokens: list[int], num_heads: int, steps: int, largest_beta: float
) -> np.ndarray:
    """Logits after each token, (tokens, vocab)."""
    xs = params["embedding"]["embedding"][tokens]
    length, width = xs.shape
    size = width // num_heads
    for index in range(len(params["layers"])):
        block = params["layers"][index]
        delta = block["delta"]
        normed = np.stack([norm(block["delta_norm"], x) for x in xs])
        projected = normed @ delta["query_key_value"]["kernel"]
        if "convolution" in delta:
            kernel = delta["convolution"]["kernel"]
            seen = np.concatenate([np.zeros((len(kernel) - 1, projected.shape[1])), projected])
            projected = np.stack([(kernel * seen[t : t + len(kernel)]).sum(0) for t in range(length)])
        active = silu(projected)
        betas = largest_beta * sigmoid(normed @ delta["beta"]["kernel"])
        mixed = np.zeros_like(xs)
        for head in range(num_heads):
            # Channels: the query, every step's key, every step's value; each has one part per head.
            q, *rest = np.split(active, 1 + 2 * steps, axis=1)
            here = slice(head * size, (head + 1) * size)
            keys = unit(np.stack([part[:, here] for part in rest[:steps]], axis=1))
            values = np.stack([part[:, here] for part in rest[steps:]], axis=1)
            beta = np.stack([betas[:, j * num_heads + head] for j in range(steps)], axis=1)
            _, outputs = delta_rule(np.zeros((size, size)), unit(q[:, here]), keys, values, beta)
            mixed[:, here] = [norm(delta["output_norm"], o) for o in outputs]
        xs = xs + mixed @ delta["output"]["kernel"]
        normed = np.stack([norm(block["mlp_norm"], x) for x in xs])
        hidden = silu(normed @ block["mlp_gate"]["kernel"]) * (normed @ block["mlp_in"]["kernel"])
        xs = xs + hidden @ block["mlp_out"]["kernel"]
    return np.stack([norm(params["final_norm"], x) for x in xs]) @ params["output"]["kernel"]
