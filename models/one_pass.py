"""Forward pass of a GPT on accelerators: prompt and response of a row as one sequence.

`models.gpt` computes a prompt once for all its candidates, and the candidates after it. A row with one
candidate, as in training, needs no sharing. One pass over prompt and response has half as many products, each
with more rows, and no keys to join. Parameters and results are those of `models.gpt`, up to rounding.

Arrays are (batch, length, width), and (batch, heads, length, head_dim) in attention. Products write these
layouts directly. Lengths are multiples of `ROWS`, so that a TPU joins batch and length without a copy. A
block keeps inputs and outputs of its products for the backward pass. Attention weights and the slope of GELU
are computed again there, and on a GPU also the norms.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from models.accelerated import attend_before, einsum, gelu, normalised, product
from models.target import platform

Params = Any

ROWS = 8
"""Rows of a tile of a TPU's arrays."""

_POLICY = jax.checkpoint_policies.save_only_these_names(
    "heads", "attended", "log_total", "middle", "inner", "hidden"
)


def response_states(
    params: Params,
    prompt: Int[Array, "batch prompt"],
    prompt_mask: Bool[Array, "batch prompt"],
    responses: Int[Array, "batch 1 response"],
    num_heads: int,
    dtype: str,
) -> Float[Array, "batch 1 response width"]:
    """Outputs of the last block at the input before every response token, in `dtype`.

    Args:
        params: parameters of a `models.GPT`.
        prompt: padded on the left.
        prompt_mask: True where a token is no padding.
        responses: one response per prompt.
        num_heads: heads of attention.
        dtype: of the activations.
    """
    inputs = responses[:, 0, :-1]
    tokens = jnp.concatenate([prompt, inputs], axis=1)
    mask = jnp.concatenate([prompt_mask, jnp.ones(inputs.shape, bool)], axis=1)
    count = responses.shape[2]
    missing = ((0, 0), (-tokens.shape[1] % ROWS, 0))
    tokens, mask = jnp.pad(tokens, missing), jnp.pad(mask, missing)
    x = _embedded(params, tokens, mask, dtype)
    rows = min(-(-count // ROWS) * ROWS, tokens.shape[1])
    for layer, block in enumerate(params["blocks"], start=1):
        asked = rows if layer == len(params["blocks"]) else tokens.shape[1]
        outputs: Any = functools.partial(_outputs, num_heads=num_heads, asked=asked)
        if platform() == "gpu":
            # On a TPU the layers' own gradients keep less, and what `checkpoint` keeps would be copied.
            outputs = jax.checkpoint(outputs, policy=_POLICY)
        x = outputs(block, x, mask)
    return x[:, None, -count:]


def _embedded(
    params: Params, tokens: Int[Array, "batch length"], mask: Bool[Array, "batch length"], dtype: str
) -> Float[Array, "batch length width"]:
    """Token embedding plus position embedding, as one product with one-hot rows: a gather of single rows is
    slow, and the order of a scatter's sums is left to chance. Positions count the tokens that are no padding.
    """
    positions = jnp.maximum(jnp.cumsum(mask, axis=1) - 1, 0)
    table = jnp.concatenate([params["token"], params["position"]])
    row, first = jnp.arange(table.shape[0]), params["token"].shape[0]
    chosen = (row == tokens[..., None]) | (row == first + positions[..., None])
    return einsum("btr,rc->btc", chosen.astype(dtype), table.astype(dtype)).astype(dtype)


def _outputs(
    block: Params,
    x: Float[Array, "batch length width"],
    mask: Bool[Array, "batch length"],
    num_heads: int,
    asked: int,
) -> Float[Array, "batch asked width"]:
    """The block's outputs at the last `asked` positions."""
    width = x.shape[-1]
    split = (num_heads, width // num_heads)
    own = block["query_key_value"]
    kernels, biases = own["kernel"].reshape(width, 3, *split), own["bias"].reshape(3, *split)
    normed = normalised(x, **block["attention_norm"])
    inputs = (normed[:, -asked:], normed, normed)
    query, key, value = (
        checkpoint_name(product("btc,chd->bhtd", rows, kernels[:, part], biases[part]), "heads")
        for part, rows in enumerate(inputs)
    )
    attended = attend_before(query, key, value, mask)
    out = block["attention_out"]
    written = product("bhtd,hdc->btc", attended, out["kernel"].reshape(*split, width), out["bias"])
    x = checkpoint_name(x[:, -asked:] + written, "middle")
    inner = product("btc,cn->btn", normalised(x, **block["mlp_norm"]), **block["mlp_in"])
    inner = checkpoint_name(inner, "inner")
    hidden = checkpoint_name(gelu(inner), "hidden")
    return x + product("btn,nc->btc", hidden, **block["mlp_out"])
