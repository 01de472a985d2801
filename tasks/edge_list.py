"""Edge lists of graphs as prompts: `u1 v1 | u2 v2 | ... / s t =`, in tokens and as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from tasks.base import PAD
from tasks.ordering import highest, lowest

EdgeOrder = Literal["shuffled", "by_layer", "depth_first"]


def max_edges(depth: int, width: int, branching: int) -> int:
    """Edges of the largest graph: the last layer branches only if all others do."""
    inner = min(branching, depth - 1)
    return width + (depth - 1 + inner) * width + 1 + (branching - inner)


def prompt_length(num_edges: int, separators: bool) -> int:
    """Tokens of a prompt: `u v` per edge, the separators, and `/ s t =`."""
    return (3 * num_edges - 1 if separators else 2 * num_edges) + 4


def draws(depth: int, width: int, edge_order: EdgeOrder) -> dict[int, tuple[int, ...]]:
    """Shapes of the uniform numbers that `edge_list_prompt` takes: of the slots, 0, and of the edges, 1."""
    shapes: dict[int, tuple[int, ...]] = {0: (depth, width)}
    return shapes | ({1: ((depth - 1) * width**2 + 2 * width,)} if edge_order == "shuffled" else {})


def edge_list_prompt(
    uniforms: Mapping[int, Float[Array, "..."]],
    ends: Int[Array, " 2"],
    nodes: Int[Array, "depth width"],
    passable: Bool[Array, "depth width"],
    num_edges: int,
    num_ids: int,
    edge_order: EdgeOrder,
    separators: bool,
    fill: bool = False,
) -> tuple[Int[Array, " prompt"], Bool[Array, " prompt"]]:
    """Prompt and mask of a graph, padded on the left to the length of `num_edges` edges.

    With `fill` the prompt is filled with `|` between the edges and `/ s t =` instead. Passable nodes are
    joined to all nodes of the next layer. The nodes of a layer are listed in random order. Edges are listed
    in layer order, shuffled as a whole, or in the order of a depth-first search from the source: down one
    path, then the other passable nodes from the last layer to the first.

    Args:
        uniforms: independent numbers of the shapes that `draws` gives.
    """
    depth, width = nodes.shape
    # In layer order, the position of a slot would reveal passable nodes; hence the shuffle within layers.
    shuffle = jnp.argsort(uniforms[0], axis=1)
    nodes = jnp.take_along_axis(nodes, shuffle, axis=1)
    passable = jnp.take_along_axis(passable, shuffle, axis=1)
    sources = [jnp.repeat(ends[:1], width), jnp.repeat(nodes[:-1].reshape(-1), width), nodes[-1]]
    targets = [nodes[0], jnp.repeat(nodes[1:], width, axis=0).reshape(-1), jnp.repeat(ends[1:], width)]
    exists = [jnp.ones((width,), bool), jnp.repeat(passable[:-1].reshape(-1), width), passable[-1]]
    source, target, exist = (jnp.concatenate(parts) for parts in (sources, targets, exists))
    listed = np.arange(exist.shape[0])
    if edge_order == "shuffled":
        priority = uniforms[1]
    elif edge_order == "by_layer":
        priority = jnp.asarray(listed, jnp.float32)
    else:
        from_layer = (listed + width * (width - 1)) // width**2
        first = passable & (jnp.cumsum(passable, axis=1) == 1)
        down = jnp.concatenate(
            [jnp.ones((width,), bool), jnp.repeat(first[:-1].reshape(-1), width), first[-1]]
        )
        visit = jnp.where(down, from_layer, 2 * depth + 1 - from_layer)
        priority = (visit * len(listed) + listed).astype(jnp.float32)
    if fill:
        order = lowest(jnp.where(exist, priority, jnp.inf), num_edges)
    else:
        order = highest(jnp.where(exist, priority, -1.0), num_edges)
    tokens, mask = edge_tokens(source[order], target[order], exist[order], ends, num_ids, separators)
    return (jnp.where(mask, tokens, num_ids + 1), jnp.ones_like(mask)) if fill else (tokens, mask)


def edge_tokens(
    source: Int[Array, " edges"],
    target: Int[Array, " edges"],
    exist: Bool[Array, " edges"],
    ends: Int[Array, " 2"],
    num_ids: int,
    separators: bool,
) -> tuple[Int[Array, " prompt"], Bool[Array, " prompt"]]:
    """Prompt and mask that list the edges in the given order; edges that do not exist are padding."""
    columns = [source, target]
    if separators:
        columns.append(jnp.full_like(source, num_ids + 1))
    edges = jnp.stack(columns, axis=1)
    edge_mask = jnp.broadcast_to(exist[:, None], edges.shape).reshape(-1)
    tokens = edges.reshape(-1)[: -1 if separators else None]
    tail = jnp.stack([jnp.asarray(num_ids + 2), ends[0], ends[1], jnp.asarray(num_ids + 3)])
    mask = jnp.concatenate([edge_mask[: tokens.shape[0]], jnp.ones((4,), bool)])
    return jnp.where(mask, jnp.concatenate([tokens, tail]), PAD).astype(jnp.int32), mask


def _specials(num_ids: int) -> dict[str, int]:
    return {"|": num_ids + 1, "/": num_ids + 2, "=": num_ids + 3}


def encode(text: str, num_ids: int) -> list[int]:
    """Tokens of an edge list or a path.

    Raises:
        ValueError: for a word that is neither an id in 1..num_ids nor one of `|`, `/`, `=`.
    """
    specials, tokens = _specials(num_ids), []
    for word in text.split():
        if word in specials:
            tokens.append(specials[word])
        elif word.isdecimal() and 1 <= int(word) <= num_ids:
            tokens.append(int(word))
        else:
            raise ValueError(f"text: {word!r} is neither an id in 1..{num_ids} nor one of | / =")
    return tokens


def decode(tokens: Any, num_ids: int) -> str:
    """Text of tokens; padding is skipped."""
    names = {token: text for text, token in _specials(num_ids).items()}
    return " ".join(
        names.get(int(token), str(int(token))) for token in np.asarray(tokens) if int(token) != PAD
    )
