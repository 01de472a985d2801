"""Options of XLA's compiler: what it refuses is one line before anything else is compiled."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from tasks.compiling import LIGHT, QUICK, require_options

REFUSED = {
    "xla_no_such_option": (True, "No such compile option"),
    "xla_cpu_use_fusion_emitters": ("no", "'no' is not a valid bool value"),
    "xla_backend_optimization_level": ("high", "'high' is not a valid int32 value"),
    "exec_time_optimization_effort": ("much", "a value of another type"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_that_the_compiler_does_not_take_is_one_line(name: str) -> None:
    value, reason = REFUSED[name]
    with pytest.raises(ValueError, match=reason) as caught:
        require_options({"xla_backend_optimization_level": 1, name: value}, "cpu")
    assert str(caught.value).startswith(f"compiler_options.{name}: {value!r}; the compiler for cpu says: ")
    assert "\n" not in str(caught.value)


def test_our_own_options_are_taken() -> None:
    for options in (QUICK, LIGHT, {}):
        require_options(options, "cpu")
        double = jax.jit(lambda x: 2 * x, compiler_options=options)
        assert double(np.float32(3)) == 6
