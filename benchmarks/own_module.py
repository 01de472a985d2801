"""A Flax module of one's own: covlab's program against the loop of Flax's documentation.

    python -m benchmarks.own_module --cores 2

Both train one GRU on equal batches with AdamW. The loop is `nnx.jit` with `nnx.Optimizer`, one call a step,
and has its batches in memory. covlab draws its own. The losses of the first updates must agree.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from benchmarks import common
from benchmarks.flax_loop import decayed
from benchmarks.problem import Sequences, sequences
from benchmarks.worker import Worker, steps_in_turn

COVLAB, LOOP = "benchmarks.program:Covlab", "benchmarks.own_module:Loop"
BATCHES = 8
"""Batches that the loop has in memory and repeats."""
CHECKED = 5
"""Updates whose losses are compared."""
TOLERANCE = 1e-3
"""Largest relative difference of a loss."""


class GRU(nnx.Module):
    """Embedding, GRU and output layer, as a user writes them."""

    def __init__(self, vocab_size: int, width: int = 64, *, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(vocab_size, width, rngs=rngs)
        self.rnn = nnx.RNN(nnx.GRUCell(width, width, rngs=rngs), rngs=rngs)
        self.out = nnx.Linear(width, vocab_size, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits of the next token at every position."""
        logits: jax.Array = self.out(self.rnn(self.embed(tokens)))
        return logits


def loss_of(model: GRU, batch: Sequences) -> jax.Array:
    """-ln pi(response | prompt), averaged over the batch."""
    places = jnp.asarray(batch.places)
    logits = jnp.take_along_axis(model(jnp.asarray(batch.tokens)), places[..., None], axis=1)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.target)
    return jnp.sum(losses * batch.target_mask) / batch.tokens.shape[0]


class Loop:
    """The loop of Flax's documentation.

    Args:
        parameters: initial values by name, with "/" between levels.
        batches: of consecutive steps.
        vocab_size, width: sizes of the GRU.
        settings: of AdamW.
    """

    def __init__(
        self,
        parameters: Mapping[str, Any],
        batches: Sequence[dict[str, np.ndarray]],
        vocab_size: int,
        width: int,
        settings: Mapping[str, float],
    ) -> None:
        self.batches = [jax.tree.map(jnp.asarray, sequences(batch, "right")) for batch in batches]
        self.parameters, self.settings = parameters, settings
        self.vocab_size, self.width = vocab_size, width

        @nnx.jit
        def train_step(model: GRU, optimizer: Any, batch: Sequences) -> jax.Array:
            loss, gradient = nnx.value_and_grad(loss_of)(model, batch)
            optimizer.update(model, gradient)
            return loss

        self.train_step = train_step
        self.reset()

    def reset(self) -> None:
        """Restore the initial parameters and a fresh optimizer."""
        self.model = GRU(self.vocab_size, self.width, rngs=nnx.Rngs(0))
        state: Any = nnx.state(self.model, nnx.Param)
        for path, leaf in nnx.to_flat_state(state):
            leaf[...] = jnp.asarray(self.parameters["/".join(map(str, path))])
        nnx.update(self.model, state)
        rule = optax.adamw(**self.settings, mask=decayed)
        self.optimizer = nnx.Optimizer(self.model, rule, wrt=nnx.Param)
        self.done = 0

    def steps(self, count: int) -> None:
        """Train for `count` steps."""
        for _ in range(count):
            loss = self._step()
        jax.block_until_ready((loss, nnx.state(self.model)))

    def losses(self, count: int) -> list[float]:
        """Losses of the first updates."""
        self.reset()
        return [float(self._step()) for _ in range(count)]

    def _step(self) -> jax.Array:
        batch = self.batches[self.done % len(self.batches)]
        self.done += 1
        loss: jax.Array = self.train_step(self.model, self.optimizer, batch)
        return loss


def require_equal(expected: Sequence[float], found: Sequence[float]) -> float:
    """The largest relative difference of the losses.

    Raises:
        UsageError: it exceeds `TOLERANCE`.
    """
    error = float(np.max(np.abs(np.divide(found, expected) - 1)))
    if not error <= TOLERANCE:
        raise common.UsageError(f"not the same problem: losses of the first updates differ by {error:.2g}")
    return error


def main(arguments: Sequence[str]) -> None:
    """Time, print, write."""
    parser = common.parser("own_module", "a GRU of Flax in covlab's program against a plain loop", repeats=9)
    parser.add_argument("--width", type=common.positive, default=64, help="width of the GRU")
    parser.add_argument("--seeds", type=common.positive, default=4, help="seeds of the second row")
    options = parser.parse_args(arguments)
    cores = common.keep_to(options.cores)
    tiny = [each for each in common.TINY if not each.startswith("model.")] if options.tiny else []
    width, seconds = (8, 0.01) if options.tiny else (options.width, 2.0)
    own = ["model=flax", "model.module._target_=benchmarks.own_module.GRU", f"model.module.width={width}"]
    overrides = [*own, *tiny, *options.overrides]
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(Worker(COVLAB, overrides=[*overrides, "seeds=1"]))
        many = stack.enter_context(Worker(COVLAB, overrides=[*overrides, f"seeds={options.seeds}"]))
        loop = stack.enter_context(Worker(LOOP, width=width, **one.call("training", BATCHES)))
        error = require_equal(one.call("losses", CHECKED), loop.call("losses", CHECKED))
        workers = {"one seed": one, f"{options.seeds} seeds": many, "loop": loop}
        times, _ = steps_in_turn(workers, seconds, options.repeats)
    seeds = {"one seed": 1, f"{options.seeds} seeds": options.seeds, "loop": 1}
    rates = {name: [seeds[name] / value for value in values] for name, values in times.items()}
    over = {name: common.ratio(rates[name], rates["loop"]) for name in rates if name != "loop"}
    print(f"{'':12}{'steps of a seed per second':>32}{'over the loop':>28}")
    for name, values in rates.items():
        print(f"{name:12}{common.summary(values)!s:>32}{over.get(name, '')!s:>28}")
    results = {
        "covlab_over_loop": over,
        "steps_of_a_seed_per_second": {name: common.summary(values) for name, values in rates.items()},
        "width": width,
        "largest_difference_of_losses": error,
    }
    common.write(options.out, "own_module", arguments, cores, results)


if __name__ == "__main__":
    common.run(main)
