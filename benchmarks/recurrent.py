"""The delta rule by chunks against step by step: python -m benchmarks.recurrent

Times the gradient of a language model's cross-entropy (forward and backward pass) for DeltaNet and
DeltaProduct, by the chunked form of `models.delta_rule` and by a scan of `step` over the tokens. The two must
give equal losses and gradients. `rule` is the recurrence of one layer alone, without projections and MLPs.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from benchmarks import common
from models.delta_net import DeltaProduct
from models.delta_rule import delta_chunked, delta_step, normalise
from tasks import stream

VOCAB = 32
TOLERANCE = 1e-4
"""Largest difference of the two losses, and of two gradients of one array over the array's largest entry."""


def by_steps(model: DeltaProduct, tokens: Int[Array, "batch length"]) -> Float[Array, "batch length vocab"]:
    """`model(tokens)`, computed by a scan of `model.step`."""
    _, logits = jax.lax.scan(model.step, model.initial_carry(len(tokens)), tokens.T)
    return jnp.swapaxes(logits, 0, 1)


def rule_by_steps(state: Array, *inputs: Array) -> tuple[Array, Array]:
    """`delta_chunked`, computed by a scan of `delta_step`."""
    by_time = [jnp.moveaxis(each, 2, 0) for each in inputs]
    state, outputs = jax.lax.scan(lambda state, token: delta_step(state, *token), state, tuple(by_time))
    return state, jnp.moveaxis(outputs, 0, 2)


def model_gradients(
    steps: int, batch: int, length: int, width: int
) -> tuple[dict[str, Callable[[Any], Any]], Any]:
    """Compiled loss and gradient of a model's parameters by both forms, and the parameters."""
    model = DeltaProduct(VOCAB, width=width, householder_steps=steps, rngs=nnx.Rngs(stream(0)))
    graph, params = nnx.split(model)
    tokens = jax.random.randint(stream(1), (batch, length + 1), 0, VOCAB)

    def gradient(forward: Callable[[Any, Array], Array]) -> Callable[[Any], Any]:
        def loss(params: Any) -> Array:
            log_probs = jax.nn.log_softmax(forward(nnx.merge(graph, params), tokens[:, :-1]))
            return -jnp.mean(jnp.take_along_axis(log_probs, tokens[:, 1:, None], axis=-1))

        return jax.jit(jax.value_and_grad(loss))

    return {"chunks": gradient(lambda model, tokens: model(tokens)), "steps": gradient(by_steps)}, params


def rule_gradients(
    steps: int, batch: int, length: int, width: int
) -> tuple[dict[str, Callable[[Any], Any]], Any]:
    """Compiled value and gradient of a function of the recurrence of one layer of 4 heads, and its inputs."""
    size, rows = width // 4, (batch, 4, length)
    keys = jax.random.split(stream(2), 5)
    query = normalise(jax.random.normal(keys[0], (*rows, size)))
    key = normalise(jax.random.normal(keys[1], (*rows, steps, size)))
    value = jax.random.normal(keys[2], (*rows, steps, size))
    beta = 2 * jax.nn.sigmoid(jax.random.normal(keys[3], (*rows, steps)))
    weights = jax.random.normal(keys[4], (*rows, size))
    empty = jnp.zeros((batch, 4, size, size))

    def gradient(rule: Callable[..., tuple[Array, Array]]) -> Callable[[Any], Any]:
        return jax.jit(jax.value_and_grad(lambda inputs: jnp.mean(weights * rule(empty, *inputs)[1])))

    chunks = functools.partial(delta_chunked, chunk_size=32)
    return {"chunks": gradient(chunks), "steps": gradient(rule_by_steps)}, (query, key, value, beta)


def check(forms: dict[str, Callable[[Any], Any]], inputs: Any) -> float:
    """The largest difference between the two forms, see `TOLERANCE`.

    Raises:
        UsageError: it exceeds the tolerance.
    """
    chunks, steps = (jax.tree.map(np.asarray, form(inputs)) for form in forms.values())
    apart = [
        float(np.max(np.abs(a - b)) / max(np.max(np.abs(b)), np.finfo(np.float32).tiny))
        for a, b in zip(jax.tree.leaves(chunks), jax.tree.leaves(steps), strict=True)
    ]
    if not max(apart) <= TOLERANCE:
        raise common.UsageError(f"recurrent: chunks and steps differ by {max(apart):.2g}")
    return max(apart)


def main(arguments: Sequence[str]) -> None:
    """Time, print, write."""
    parser = common.parser("recurrent", "the delta rule by chunks against step by step", repeats=7)
    parser.add_argument("--batch", type=common.positive, default=16, help="sequences")
    parser.add_argument("--length", type=common.positive, default=256, help="tokens of a sequence")
    parser.add_argument("--width", type=common.positive, default=128, help="width, a multiple of 4")
    options = parser.parse_args(arguments)
    if options.overrides:
        raise common.UsageError(f"{options.overrides[0]}: this benchmark has no configuration")
    if options.width % 4:
        raise common.UsageError(f"--width: {options.width} is not a multiple of 4")
    cores = common.keep_to(options.cores)
    sizes = (2, 8, 8) if options.tiny else (options.batch, options.length, options.width)
    seconds, ratios, errors = {}, {}, {}
    for steps, name in ((1, "deltanet"), (2, "deltaproduct")):
        for part, made in (("model", model_gradients), ("rule", rule_gradients)):
            forms, inputs = made(steps, *sizes)
            label = f"{name}, {part}"
            errors[label] = check(forms, inputs)

            def timed(form: Callable[[Any], Any], inputs: Any = inputs) -> float:
                began = time.perf_counter()
                jax.block_until_ready(form(inputs))
                return time.perf_counter() - began

            contenders = {name: functools.partial(timed, form) for name, form in forms.items()}
            times = common.in_turn(contenders, options.repeats)
            seconds[label] = {name: common.summary(values) for name, values in times.items()}
            ratios[label] = common.ratio(times["steps"], times["chunks"])
            print(
                f"{label:20} {seconds[label]['chunks']} s by chunks; {ratios[label]} times as fast as steps"
            )
    results = {
        "steps_over_chunks": ratios,
        "seconds": seconds,
        "errors": errors,
        "batch": sizes[0],
        "length": sizes[1],
        "width": sizes[2],
    }
    common.write(options.out, "recurrent", arguments, cores, results)


if __name__ == "__main__":
    common.run(main)
