"""Compilations that run beside each other: equal ones once, results in order, and nothing after a refusal."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from covlab.plan.programs import AT_ONCE, Compiled, Compiler, Traced, at_once
from covlab.plan.store import Store
from covlab.plan.target import target_of


def traced(name: str, size: int) -> Traced:
    x = jax.ShapeDtypeStruct((size, size), jnp.float32)
    return Traced("p", name, 1, 0, 0, jax.jit(lambda x: x @ x).trace(x))


def test_equal_programs_are_compiled_once_and_each_keeps_its_name() -> None:
    said: list[str] = []
    with Compiler(target_of("cpu"), 2) as compiler:
        begun = [
            compiler.begin(traced(name, size), lambda name=name: said.append(name))
            for name, size in (("a", 4), ("b", 8), ("c", 4))
        ]
        found = [finished() for finished in begun]
    assert [each.name for each in found] == ["a", "b", "c"]
    assert [sum(each.flops.values()) for each in found] == [2 * 4**3, 2 * 8**3, 2 * 4**3]
    assert found[0].memory == found[2].memory != found[1].memory
    assert sorted(said) == ["a", "b"]


def test_as_many_compile_at_once_as_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two compilations wait for each other: in turn, the first would wait in vain."""
    both = threading.Barrier(2, timeout=60)
    made = Compiler._compile

    def waits(self: Compiler, *rest: Any) -> Any:
        both.wait()
        return made(self, *rest)

    monkeypatch.setattr(Compiler, "_compile", waits)
    with Compiler(target_of("cpu"), 2) as compiler:
        begun = [compiler.begin(traced(name, size)) for name, size in (("a", 4), ("b", 8))]
        assert [finished().name for finished in begun] == ["a", "b"]


def test_what_waits_at_the_end_of_the_block_is_left_out() -> None:
    """The first compilation is held until the block has ended; the second never begins."""
    said: list[str] = []
    begins, ends = threading.Event(), threading.Event()

    def first() -> None:
        begins.set()
        ends.wait(60)

    with Compiler(target_of("cpu")) as compiler:
        finished = compiler.begin(traced("a", 4), first)
        compiler.begin(traced("b", 8), lambda: said.append("b"))
        begins.wait(60)
    ends.set()
    assert finished().name == "a"
    assert said == []


def test_a_later_plan_finds_what_an_earlier_one_compiled(tmp_path: Path) -> None:
    """All that a page shows is the same; another target, program or option, or a damaged file is compiled."""
    said: list[str] = []

    def planned(name: str, target: str = "cpu", size: int = 4, **options: bool) -> Compiled:
        with Compiler(target_of(target), 1, Store(tmp_path)) as compiler:
            return compiler.begin(traced(name, size)._replace(options=options), lambda: said.append(name))()

    first = planned("a")
    assert first.costs is not None
    assert dataclasses.replace(planned("b"), name="a") == first
    planned("c", size=8)
    planned("d", target="cpu:2")
    planned("o", xla_cpu_use_fusion_emitters=False)
    assert said == ["a", "c", "d", "o"]
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:40])
    assert planned("e").costs == first.costs
    assert said == ["a", "c", "d", "o", "e"]


def test_a_folder_that_cannot_be_written_costs_a_compilation(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Compiler(target_of("cpu"), 1, Store(tmp_path / "file" / "plans")) as compiler:
        assert compiler(traced("a", 4)).memory is not None


def test_programs_at_once_are_limited_by_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, 1), (2, 2), (64, AT_ONCE)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert at_once() == expected
