"""Training FLOP of a shared-weight transformer: counted product by product, and in the traced program."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covlab.plan.flops import product_flops
from experiments.depth.flops import equal_steps, step_flops
from models import Recursive, token_log_probs
from tasks import stream

MODEL = Recursive(
    vocab_size=13, prompt_length=4, response_length=3, num_layers=2, num_heads=2, width=8, num_recursions=2
)


@pytest.mark.parametrize(
    "changes",
    [{}, {"num_recursions": 1}, {"num_layers": 1, "num_recursions": 5}, {"outer_layers": 1, "mlp_ratio": 2}],
)
def test_products_one_by_one(changes: dict[str, int]) -> None:
    """Every matrix entry that is read, position by position, in plain loops; three times for the gradient."""
    model = dataclasses.replace(MODEL, **changes)
    uses = 2 * model.outer_layers + model.num_recursions * model.num_layers
    first, multiplications = model.prompt_length - 1, 0
    for use in range(uses):
        for position in range(first + model.response_length):
            multiplications += 2 * model.width**2  # keys and values
            if use < uses - 1 or position >= first:
                multiplications += 2 * model.width**2  # queries, output
                multiplications += 2 * model.width * model.mlp_ratio * model.width
                multiplications += sum(
                    2 * model.width for key in range(position + 1)
                )  # score, weighted value
    multiplications += model.response_length * model.width * model.vocab_size
    assert step_flops(model, 5) == 3 * 2 * 5 * multiplications


def traced(model: Recursive, batch: int) -> int:
    """FLOP of the products in the gradient of a batch's log-probability."""
    params = jax.eval_shape(lambda: model.init(stream(0, "init")))
    prompt = jax.ShapeDtypeStruct((batch, model.prompt_length), jnp.int32)
    responses = jax.ShapeDtypeStruct((batch, 1, model.response_length), jnp.int32)

    def loss(params: Any, prompt: Any, responses: Any) -> Any:
        logits = model.logits(params, prompt, prompt > 0, responses)
        return jnp.sum(token_log_probs(logits, responses))

    return product_flops(jax.make_jaxpr(jax.grad(loss))(params, prompt, responses)).total()


def test_a_further_recursion_costs_what_the_traced_program_spends_on_it() -> None:
    """The program multiplies the masked half of attention too: up to T^2 in place of T (T + 1)/2 pairs."""
    model = dataclasses.replace(MODEL, prompt_length=6, width=64, num_layers=1)
    one, four = (dataclasses.replace(model, num_recursions=count) for count in (1, 4))
    spent = traced(four, 3) - traced(one, 3)
    needed = step_flops(four, 3) - step_flops(one, 3)
    length = 5 + 3
    masked = 3 * 3 * 3 * 4 * 64 * (length**2 - length * (length + 1) / 2)
    assert needed <= spent <= needed + masked


def test_steps_of_equal_flops() -> None:
    counts = equal_steps(MODEL, 32, 5000, (1, 2, 4))
    spent = [
        count * step_flops(dataclasses.replace(MODEL, num_recursions=recursions), 32)
        for count, recursions in zip(counts, (1, 2, 4), strict=True)
    ]
    assert counts[0] == 5000
    np.testing.assert_allclose(spent, spent[0], rtol=1e-3)
    # The output layer and the savings of the last use do not grow with R.
    assert counts[0] > counts[1] > counts[2]
    assert equal_steps(MODEL, 32, 1, (1, 64))[1] == 1
