"""covlab as a contender: the only module of the benchmarks that uses covlab's program."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from jaxtyping import Array, Float, Int, PRNGKeyArray
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from benchmarks.common import UsageError
from benchmarks.problem import Problem
from benchmarks.trace import Instruction, Spent, instructions, traced
from covlab.launch.build import Setup, build
from covlab.launch.explain import explain
from covlab.launch.runtime import configure_run
from covlab.launch.schema import register_schemas
from models import GPT
from tasks import Example, Task, stream
from training import CrossEntropy, Phase, Program, TrainState, make_program
from training.feed import batch_of_step
from training.mesh import Grid
from training.precision import used


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """conf/train.yaml with `overrides`.

    Raises:
        UsageError: Hydra refuses an override.
    """
    register_schemas()
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("conf", version_base="1.3"):
            return compose("train", list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UsageError(explain(error, "train", overrides)) from None


def setup_of(overrides: Sequence[str]) -> Setup:
    """The objects of a run with these overrides.

    Raises:
        UsageError: an invalid override.
    """
    config = compose_config(overrides)
    try:
        return build(config)
    except ValueError as error:
        raise UsageError(str(error)) from None


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn(Task):
    """`task` with examples drawn in advance: `sample` picks one of them, at almost no cost.

    Attributes:
        task: the task that drew the examples.
        examples: the examples, with a leading axis.
    """

    task: Task
    examples: Example

    @property
    def vocab_size(self) -> int:
        """As the task's, like the other properties."""
        return self.task.vocab_size

    @property
    def prompt_length(self) -> int:
        """As the task's."""
        return self.task.prompt_length

    @property
    def response_length(self) -> int:
        """As the task's."""
        return self.task.response_length

    @property
    def groups(self) -> tuple[str, ...]:
        """As the task's."""
        return self.task.groups

    @property
    def group_probs(self) -> tuple[float, ...]:
        """As the task's."""
        return self.task.group_probs

    def sample(self, key: PRNGKeyArray, probs: Sequence[float] | None = None) -> Example:
        """One of the examples, with the class that it was drawn from."""
        index = jax.random.randint(key, (), 0, self.examples.group.shape[0])
        return jax.tree.map(lambda a: a[index], self.examples)

    def sample_group(self, key: PRNGKeyArray, group: Int[Array, ""]) -> Example:
        """As the task's."""
        return self.task.sample_group(key, group)

    def log_prob(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """As the task's."""
        return self.task.log_prob(latent, response)

    def reward(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """As the task's."""
        return self.task.reward(latent, response)

    def validity(self, latent: Any, response: Int[Array, " response"]) -> Float[Array, ""]:
        """As the task's."""
        return self.task.validity(latent, response)

    def encode(self, text: str) -> list[int]:
        """As the task's."""
        return self.task.encode(text)

    def decode(self, tokens: Any) -> str:
        """As the task's."""
        return self.task.decode(tokens)


def make(setup: Setup, phase: Phase, grid: Grid) -> Program:
    """The program of `phase`, with the smallest held-out set, because benchmarks do not evaluate."""
    held_out = dataclasses.replace(setup.evaluation[0], num_examples=1).held_out(setup.phases[0].task)
    return make_program(setup.model, phase, (), held_out, grid)


class Covlab:
    """covlab's compiled training program of a run's first phase, on the devices that the run would take.

    Args:
        overrides: overrides of conf/train.yaml; `seeds` is the number of seeds trained together.
        drawn: number of examples drawn in advance, to time training without the generation of data; None
            generates fresh examples in every step, as covlab does.
    """

    def __init__(self, overrides: Sequence[str], drawn: int | None = None) -> None:
        self.config = compose_config(overrides)
        # Before the model is built: asking a Flax module starts JAX, and the devices with it.
        configure_run(self.config)
        self.setup = setup_of(overrides)
        self.grid = Grid(self.setup.layout(self.config))
        self.phase = self.setup.phases[0]
        if drawn is not None:
            keys = jax.random.split(stream(0), drawn)
            examples = jax.jit(jax.vmap(self.phase.task.sample))(keys)
            self.phase = dataclasses.replace(
                self.phase, task=Drawn(self.phase.task, examples), dataset_size=None
            )
        self.seeds = self.grid.place(np.asarray(self.setup.seeds, np.uint32))
        self.program = make(self.setup, self.phase, self.grid)
        self.reset()

    def reset(self) -> None:
        """Restore the initial parameters and a fresh optimizer."""
        self.state, self.done = self._begin(self.program), 0

    def steps(self, count: int) -> None:
        """Train for `count` steps, in one dispatch."""
        self.state, log = self.program.run(self.state, self.seeds, self.done, self.done + count)
        self.done += count
        jax.block_until_ready((self.state, log))

    def losses(self, count: int) -> list[float]:
        """Losses of the first updates of the first seed."""
        self.reset()
        found = []
        for step in range(count):
            self.state, log = self.program.run(self.state, self.seeds, step, step + 1)
            found.append(float(np.asarray(log.loss)[0]))
        self.done = count
        return found

    def loss_and_gradient(self) -> tuple[float, dict[str, np.ndarray]]:
        """Loss and gradient of the first seed's first step, computed by the timed program with an optimizer
        whose state is the gradient."""
        keep = optax.GradientTransformation(
            init=lambda params: jax.tree.map(jnp.zeros_like, params),
            update=lambda gradient, *_: (jax.tree.map(jnp.zeros_like, gradient), gradient),
        )
        program = make(self.setup, dataclasses.replace(self.phase, optimizer=keep), self.grid)
        state, log = program.run(self._begin(program), self.seeds, 0, 1)
        return float(np.asarray(log.loss)[0]), _flat(
            jax.tree.map(lambda a: np.asarray(a)[0], state.opt_state)
        )

    def problem(self, num_batches: int) -> Problem:
        """The first seed's problem as plain arrays, with the batches of the first steps.

        Raises:
            UsageError: a configuration that the other frameworks' loops do not repeat.
        """
        model, optimizer = self.setup.model, self.config.optimizer
        needed = {
            "model": isinstance(model, GPT) and model.tie_embeddings and model.dtype == "float32",
            "objective": self.phase.objective == CrossEntropy(),
            "optimizer": str(optimizer.get("_target_")).endswith(".adamw")
            and optimizer.schedule == "constant"
            and not optimizer.warmup
            and optimizer.clip_norm is None,
        }
        for field, met in needed.items():
            if not met:
                raise UsageError(
                    f"{field}: only the default kind is compared: a float32 GPT with tied embeddings, "
                    f"cross-entropy of the response, AdamW with a constant rate and no clipping"
                )
        assert isinstance(model, GPT)
        shape = (
            "vocab_size",
            "prompt_length",
            "response_length",
            "num_layers",
            "num_heads",
            "width",
            "mlp_ratio",
        )
        rates = ("learning_rate", "weight_decay", "beta1", "beta2", "epsilon")
        settings: dict[str, Any] = {field: getattr(model, field) for field in shape}
        settings |= {field: float(optimizer[field]) for field in rates}
        return Problem(parameters=self._parameters(), batches=self._batches(num_batches), **settings)

    def training(self, num_batches: int) -> dict[str, Any]:
        """Everything that a loop of any model needs to repeat the first seed's training: `parameters`,
        `batches`, `vocab_size`, and `settings` of `optax.adamw`."""
        names = {"learning_rate": "learning_rate", "b1": "beta1", "b2": "beta2", "eps": "epsilon"}
        names |= {"weight_decay": "weight_decay"}
        return {
            "parameters": self._parameters(),
            "batches": self._batches(num_batches),
            "vocab_size": self.setup.model.vocab_size,
            "settings": {name: float(self.config.optimizer[key]) for name, key in names.items()},
        }

    def _parameters(self) -> dict[str, np.ndarray]:
        return _flat(jax.tree.map(lambda a: np.asarray(a)[0], self.program.init(self.seeds)))

    def _batches(self, count: int) -> tuple[dict[str, np.ndarray], ...]:
        draw = jax.jit(lambda step: batch_of_step(self.phase, self.seeds[0], step))
        batches = [draw(jnp.asarray(step, jnp.int32)) for step in range(count)]
        fields = ("prompt", "prompt_mask", "response", "response_mask")
        return tuple({field: np.asarray(getattr(batch, field)) for field in fields} for batch in batches)

    def cost(self) -> dict[str, float]:
        """XLA's cost of a chunk: `flops`, in which the body of a loop counts once."""
        found = self._compiled().cost_analysis()
        return {"flops": float((found[0] if isinstance(found, list) else found).get("flops", 0.0))}

    def memory(self) -> dict[str, int]:
        """Bytes of the compiled program on a device: arguments (the state) and temporary arrays."""
        found = self._compiled().memory_analysis()
        return {
            "argument_bytes": int(found.argument_size_in_bytes),
            "temporary_bytes": int(found.temp_size_in_bytes),
        }

    def instructions(self) -> dict[str, Instruction]:
        """Instructions of the compiled program."""
        return instructions(self._compiled().as_text())

    def profile(self, count: int, names: Sequence[str]) -> tuple[float, dict[str, Spent]]:
        """Train for `count` steps; returns the time of the instructions `names`, see `trace.traced`."""
        return traced(lambda: self.steps(count), names)

    def device(self) -> dict[str, Any]:
        """`platform`, `kind`, `count` (devices in use), `dtype` (of the activations in training) and, where
        the device says so, `limit_bytes` (its memory) and `peak_bytes` (the most in use so far)."""
        device = jax.devices()[0]
        known = (device.memory_stats() or {}) if device.platform != "cpu" else {}
        low = used(self.setup.model, device.platform, self.phase.precision) == "bfloat16"
        return {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": self.grid.layout.size,
            "dtype": "bfloat16" if low else "float32",
            "limit_bytes": known.get("bytes_limit"),
            "peak_bytes": known.get("peak_bytes_in_use"),
        }

    def _begin(self, program: Program) -> TrainState:
        failed_at = self.grid.place(np.full(len(self.setup.seeds), -1, np.int32))
        return program.begin(program.init(self.seeds), failed_at)

    def _compiled(self) -> Any:
        run: Any = self.program.run
        return run.lower(self.state, self.seeds, self.done, self.done + 1).compile()


def _flat(params: Any) -> dict[str, np.ndarray]:
    """Leaves by their path, levels separated by "/"."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in leaves}
