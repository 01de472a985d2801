"""Reading a profile: a program whose instructions are known, and a thread's nested events."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from benchmarks.profile import PARTS, part, shares
from benchmarks.trace import Instruction, Spent, instructions, spent, traced


def test_products_are_counted_wherever_xla_puts_them() -> None:
    def work(x: jax.Array, y: jax.Array, heads: jax.Array) -> tuple[jax.Array, jax.Array]:
        with jax.named_scope("gradient"):
            return jnp.tanh(x @ y) + 1, jnp.einsum("bqd,bkd->bqk", heads, heads)

    shapes = (jnp.ones((30, 40)), jnp.ones((40, 50)), jnp.ones((6, 7, 8)))
    found = instructions(jax.jit(work).lower(*shapes).compile().as_text())
    flops = {
        batched: sum(own.flops for own in found.values() if own.batched == batched) for batched in (0, 1)
    }
    assert flops == {0: 2 * 30 * 40 * 50, 1: 2 * 6 * 7 * 7 * 8}
    assert any("gradient" in own.scope.split("/") for own in found.values())


def test_time_inside_a_call_is_not_counted_twice() -> None:
    events = [
        (0.0, 10.0, "while"),
        (0.0, 2.0, "dot"),
        (2.0, 3.0, "call"),
        (2.5, 1.0, "dot"),
        (20.0, 1.0, "dot"),
    ]
    assert spent(events) == {"while": Spent(1, 5.0), "dot": Spent(3, 4.0), "call": Spent(1, 2.0)}


@pytest.mark.long
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="reads the profile of a CPU")
def test_a_program_is_traced() -> None:
    work = jax.jit(lambda x: jnp.sin(x @ x))
    x = jnp.ones((300, 300))
    known = instructions(work.lower(x).compile().as_text())
    jax.block_until_ready(work(x))

    seconds, found = traced(lambda: [jax.block_until_ready(work(x)) for _ in range(5)], known)

    products = [name for name in found if known[name].flops]
    assert products
    assert all(found[name].runs <= 5 for name in products)
    assert 0 < sum(own.seconds for own in found.values()) <= seconds * jax.local_device_count() * 1.01


def test_parts_add_up_to_the_whole() -> None:
    known = {
        "dot": Instruction("", 4e9, False),
        "attend": Instruction("update/gradient/jvp()/dot_general", 1e9, True),
        "exp": Instruction("update/gradient/jvp()/exp", 0.0, False),
        "sort": Instruction("while/data/sort", 0.0, False),
        "adam": Instruction("while/update/mul", 0.0, False),
    }
    found = {name: Spent(2, 1.0) for name in known}
    answer = shares(found, known, 8.0)
    assert sum(share for share, _ in answer.values()) == pytest.approx(1)
    assert [answer[name][0] for name in PARTS] == [0.125] * 5
    assert answer["waiting"] == (pytest.approx(3 / 8), 0.0)
    assert answer["products with weights"][1] == 8e9
    assert answer["products of attention"][1] == 2e9
    assert part(Instruction("copy", 0.0, False)) == "rest of the gradient"
