"""Flax modules written by others, as pure functions of their parameters, and what is asked of them.

A module is asked before anything is compiled: it is constructed and run on shapes alone.
"""

from __future__ import annotations

import abc
import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from jax.extend.core import Var
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.pure import Params, Structure, parameters

SIZES = ("vocab_size", "prompt_length", "response_length", "max_length")
"""Arguments that a module gets from the task if its signature names them."""
INPUTS = ("positions", "mask")
"""Keyword arguments that `__call__` gets if its signature names them."""
BATCH = 2
"""Sequences that a module is asked with."""


class Network(abc.ABC):
    """A Flax module as pure functions.

    Args:
        kind: the module's class.
        fields: arguments of the class.
        sizes: the task's `SIZES`, of which the class gets those that its signature names.
    """

    def __init__(self, kind: type, fields: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        self.kind, self.sizes = kind, sizes
        # Not of the class: the metaclass of nnx modules hides the constructor's signature.
        named = inspect.signature(inspect.getattr_static(kind, "__init__")).parameters
        for name in (*SIZES, "rngs"):
            if name in fields:
                raise ValueError(f"model.module.{name}: is set by the model; valid: leave it out")
        self.fields = {**fields, **{name: size for name, size in sizes.items() if name in named}}
        self.has_carry = hasattr(kind, "step") or hasattr(kind, "initial_carry")
        call = inspect.signature(kind.__call__).parameters
        self.inputs = tuple(name for name in INPUTS if name in call)

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray) -> Params:
        """Fresh parameters."""

    @abc.abstractmethod
    def call(self, params: Params, method: str, *args: Any, **keywords: Any) -> Any:
        """A method of the module with `params`."""

    @abc.abstractmethod
    def trial(self, params: Params, method: str, *args: Any, **keywords: Any) -> Any:
        """`call`, and ValueError if it changes the module's state."""

    def logits(
        self, params: Params, tokens: Int[Array, "batch length"], mask: Any
    ) -> Float[Array, "batch length vocab"]:
        """`__call__`, in float32."""
        return self.call(params, "__call__", tokens, **self._given(tokens, mask)).astype(jnp.float32)

    def step(
        self, params: Params, carry: Any, tokens: Int[Array, " batch"]
    ) -> tuple[Any, Float[Array, "batch vocab"]]:
        """The module's `step`, with logits in float32."""
        carry, logits = self.call(params, "step", carry, tokens)
        return carry, logits.astype(jnp.float32)

    def _given(self, tokens: Array, mask: Any) -> dict[str, Any]:
        every = {
            "positions": jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape),
            "mask": mask,
        }
        return {name: every[name] for name in self.inputs}

    def check(self) -> None:
        """Construct the module and run it on shapes.

        Raises:
            ValueError: one line: the module raises, changes its state, or gives other shapes.
        """
        if not self._has("__call__"):
            raise ValueError(f"model.module: {self.kind.__name__} has no __call__(tokens)")
        params = self._shapes("its initialisation", self.init, jax.random.key(0))
        tokens, mask = self._inputs_of_call()

        def whole(params: Params, tokens: Array, mask: Array) -> Any:
            return self.trial(params, "__call__", tokens, **self._given(tokens, mask))

        self._require_logits("__call__", self._shapes("__call__", whole, params, tokens, mask), tokens.shape)
        if not self.has_carry:
            return
        for name, other in (("step", "initial_carry"), ("initial_carry", "step")):
            if not self._has(name):
                raise ValueError(
                    f"model.module: {self.kind.__name__} has {other} without {name}; valid: both, or neither"
                )

        def first(params: Params) -> Any:
            return self.trial(params, "initial_carry", BATCH)

        carry = self._shapes("initial_carry", first, params)
        for leaf in jax.tree.leaves(carry):
            if leaf.shape[:1] != (BATCH,):
                raise ValueError(
                    f"model.module: {self.kind.__name__}.initial_carry({BATCH}) gives {_shape(leaf)}; "
                    f"expected arrays with {BATCH} rows, one per sequence"
                )

        def step(params: Params, carry: Any, tokens: Array) -> Any:
            return self.trial(params, "step", carry, tokens)

        given = self._shapes("step", step, params, carry, jax.ShapeDtypeStruct((BATCH,), jnp.int32))
        if not isinstance(given, tuple) or len(given) != 2:
            raise ValueError(f"model.module: {self.kind.__name__}.step gives no pair (carry, logits)")
        before, after = (
            (str(jax.tree.structure(each)), list(map(_shape, jax.tree.leaves(each))))
            for each in (carry, given[0])
        )
        if before != after:
            raise ValueError(
                f"model.module: {self.kind.__name__}.step gives another carry than initial_carry: "
                f"{jax.tree.map(_shape, given[0])}; expected {jax.tree.map(_shape, carry)}"
            )
        self._require_logits("step", given[1], (BATCH,))

    @functools.cached_property
    def scans_tokens(self) -> bool:
        """True if `__call__` contains a `lax.scan` of more steps than half a sequence has tokens."""
        params, (tokens, mask) = jax.eval_shape(self.init, jax.random.key(0)), self._inputs_of_call()
        traced = jax.make_jaxpr(
            lambda params, tokens, mask: self.call(params, "__call__", tokens, **self._given(tokens, mask))
        )(params, tokens, mask)
        return 2 * _longest_scan(traced.jaxpr) > self.sizes["max_length"] > 1

    def _inputs_of_call(self) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
        """Shapes of the tokens and the mask that a module is asked with."""
        shape = (BATCH, self.sizes["max_length"])
        return jax.ShapeDtypeStruct(shape, jnp.int32), jax.ShapeDtypeStruct(shape, jnp.bool_)

    def _has(self, name: str) -> bool:
        return callable(getattr(self.kind, name, None))

    def _require_logits(self, name: str, given: Any, rows: tuple[int, ...]) -> None:
        shape = (*rows, self.sizes["vocab_size"])
        if getattr(given, "shape", None) != shape or not jnp.issubdtype(given.dtype, jnp.floating):
            found = _shape(given) if hasattr(given, "shape") else type(given).__name__
            raise ValueError(
                f"model.module: {self.kind.__name__}.{name} gives {found}; expected floats {list(shape)}, "
                "the last axis the vocabulary's"
            )

    def _shapes(self, name: str, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return jax.eval_shape(function, *args)
        except _Refused as refused:
            raise ValueError(str(refused)) from None
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            raise ValueError(
                f"model.module: {self.kind.__name__}: {name} fails{self._place(error)}: "
                f"{type(error).__name__}: {said}"
            ) from error

    def _place(self, error: Exception) -> str:
        """The line of the module's file that was last reached."""
        file = getattr(sys.modules.get(self.kind.__module__), "__file__", None)
        lines = [
            frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file
        ]
        return f" at line {lines[-1]} of {self.kind.__module__}" if lines else ""


class _Refused(Exception):
    """A line for the user."""


class NnxNetwork(Network):
    """A `flax.nnx.Module`. Variables that are not `nnx.Param` are constants, the same in every seed."""

    def _make(self, key: PRNGKeyArray) -> Any:
        return self.kind(**self.fields, rngs=nnx.Rngs(key))

    @functools.cached_property
    def _structure(self) -> Structure:
        return Structure.of(lambda: self._make(jax.random.key(0)))

    def init(self, key: PRNGKeyArray) -> Params:
        """`nnx.Param`s of the module constructed with `nnx.Rngs(key)`."""
        return parameters(self._make(key))

    def call(self, params: Params, method: str, *args: Any, **keywords: Any) -> Any:
        """As stated in `Network`."""
        return getattr(self._structure.module(params), method)(*args, **keywords)

    def trial(self, params: Params, method: str, *args: Any, **keywords: Any) -> Any:
        """As stated in `Network`."""
        structure = self._structure
        module = structure.module(params)
        given = getattr(module, method)(*args, **keywords)
        changed = structure.changed(module, params)
        named = [".".join(map(str, path)) for path in changed]
        if not all(isinstance(leaf, nnx.RngState) for leaf in changed.values()):
            raise _Refused(
                f"model.module: {self.kind.__name__}.{method} changes {', '.join(named[:3])}; valid: a "
                "module whose calls change no variable, so no BatchNorm in training, and no sow"
            )
        if changed and self._draws(params, method, *args, **keywords):
            raise _Refused(
                f"model.module: {self.kind.__name__}.{method} draws random numbers by {', '.join(named[:3])}"
                "; valid: a module without Dropout, or with deterministic=True"
            )
        return given

    def _draws(self, params: Params, method: str, *args: Any, **keywords: Any) -> bool:
        """True if the method's outputs may depend on the module's random streams.

        A count of a stream that changes is not enough: `nnx.RNN` passes a key to the initial carry even if
        the carry is zeros.
        """
        constants = self._structure.constants

        def outputs(constants: Any) -> Any:
            module = self._structure.module(params, constants)
            return jax.tree.leaves(getattr(module, method)(*args, **keywords))

        jaxpr = jax.make_jaxpr(lambda leaves: outputs(dict(zip(constants, leaves, strict=True))))(
            list(constants.values())
        ).jaxpr
        reached = set(jaxpr.invars)
        for equation in jaxpr.eqns:
            if any(isinstance(each, Var) and each in reached for each in equation.invars):
                reached.update(equation.outvars)
        return any(isinstance(each, Var) and each in reached for each in jaxpr.outvars)


class LinenNetwork(Network):
    """A `flax.linen.Module`, whose only collection of variables is `params`."""

    @functools.cached_property
    def _module(self) -> Any:
        return self.kind(**self.fields)

    def init(self, key: PRNGKeyArray) -> Params:
        """The collection `params` of `module.init` on one sequence."""
        tokens = jnp.zeros((1, self.sizes["max_length"]), jnp.int32)
        variables = self._module.init(key, tokens, **self._given(tokens, jnp.ones(tokens.shape, bool)))
        if others := sorted(set(variables) - {"params"}):
            raise _Refused(
                f"model.module: {self.kind.__name__} has the collections {', '.join(others)}; valid: only "
                "params, so no BatchNorm and no sow"
            )
        return variables.get("params", {})

    def call(self, params: Params, method: str, *args: Any, **keywords: Any) -> Any:
        """As stated in `Network`."""
        return self._module.apply({"params": params}, *args, method=method, **keywords)

    def trial(self, params: Params, method: str, *args: Any, **keywords: Any) -> Any:
        """`call`: without mutable collections Flax itself refuses a change."""
        return self.call(params, method, *args, **keywords)


def is_flax_module(kind: Any) -> bool:
    """True for a class of Flax modules."""
    return inspect.isclass(kind) and issubclass(kind, nnx.Module | linen.Module)


def network(kind: type, fields: Mapping[str, Any], sizes: Mapping[str, int]) -> Network:
    """The network of a class of modules.

    Raises:
        ValueError: one line: not such a class, or `Network.check` refuses the module.
    """
    if not is_flax_module(kind):
        raise ValueError(
            f"model.module._target_: {getattr(kind, '__name__', kind)!r} is not a class of flax.nnx or "
            "flax.linen modules"
        )
    made = (NnxNetwork if issubclass(kind, nnx.Module) else LinenNetwork)(kind, fields, sizes)
    made.check()
    return made


def _longest_scan(jaxpr: Any) -> int:
    """Number of steps of the longest `lax.scan` in a program, nested ones included; 0 if there is none."""
    longest = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "scan":
            longest = max(longest, equation.params["length"])
        for value in equation.params.values():
            for part in value if isinstance(value, tuple | list) else (value,):
                if hasattr(part, "eqns"):
                    longest = max(longest, _longest_scan(part))
    return longest


def _shape(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"
