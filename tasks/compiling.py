"""Options of XLA's compiler."""

from collections.abc import Mapping

import jax

QUICK = {"xla_backend_optimization_level": 0} | (
    {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 11) else {}
)
"""`compiler_options` of `jax.jit` for a program that runs once.

On a CPU such a program compiles in about a seventh of the time and runs at a quarter of the speed. Whole
numbers are the same, the last bits of a float may differ. XLA of JAX 0.11.2 refuses the second option."""

LIGHT = {"xla_backend_optimization_level": 1}
"""`compiler_options` of `jax.jit` for a program that runs often.

On a CPU a training step compiles in about .87 of the CPU time and is as fast; in most programs even the last
bits are the same."""


Option = bool | int | float | str
"""Value of an option of XLA's compiler."""


def require_options(options: Mapping[str, Option], platform: str) -> None:
    """Refuse options that the compiler of this machine's devices does not have, or values it does not take.

    Args:
        platform: name of the devices' platform, for the message.

    Raises:
        ValueError: one line.
    """
    for name, value in options.items():
        try:
            jax.jit(lambda x: x, compiler_options={name: value}).lower(0).compile()
        except (jax.errors.JaxRuntimeError, TypeError) as error:
            # The binding of an option with a field of its own says which types of C++ it takes.
            known = isinstance(error, jax.errors.JaxRuntimeError)
            reason = str(error).splitlines()[0].rstrip(".") if known else "a value of another type"
            raise ValueError(
                f"compiler_options.{name}: {value!r}; the compiler for {platform} says: {reason}"
            ) from None
