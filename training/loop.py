"""Host side of training: dispatch, read back, report, save, stop."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metrics.evaluators import Evaluator, HeldOut
from models import Model, ModelError, Params, check_model
from tasks.drawing import DRAWS
from training.checkpoint_policy import stored_bytes
from training.checkpoints import Checkpoints, Position
from training.early_warning import EarlyWarning, Watch
from training.kept import Shelf, once, shapes_of
from training.mesh import Grid, Layout, choose_layout
from training.parameter_files import disk_bytes
from training.phase import Phase
from training.processes import broadcast, leads, several, share
from training.program import Program, SeedBatching, TrainState, make_program
from training.reduction import any_nan, held_out_arrays, reduce_log, reduce_scores
from training.seen import coverage_ns
from training.sink import Record, Sink
from training.sources import base_of, of_base
from training.start import PhaseStart
from training.table import COLUMNS, sample_table

NOT_FINITE = "loss or gradient is not finite"
"""Beginning of the message of `TrainingDiverged` and of the status of a diverged run."""


class TrainingDiverged(RuntimeError):
    """No seed has a finite loss and gradient; the message states the phase and the steps."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Outcome of a run.

    Attributes:
        params: final parameters with a leading axis of seeds.
        failed: seed -> (phase, step) of the first loss that is not finite.
        stopped: reason of an early stop, or None.
    """

    params: Any
    failed: dict[int, tuple[str, int]]
    stopped: str | None


@dataclasses.dataclass
class _Pending:
    """Results of one boundary of the step grid not yet reported; the device may still compute them."""

    step: int
    log: Any
    scores: Any
    failed_at: Any


class Trainer:
    """Trains one model through a sequence of phases, all seeds at once.

    With several processes, every process runs one trainer. All stop at the same boundary once one is asked to
    stop. The first process decides when to save and from which state to resume.

    Args:
        model: the model.
        phases: phases in order; parameters pass from one to the next, optimizers are reinitialised.
        seeds: initialisation and data of seed s depend on s alone.
        evaluators: the evaluators.
        held_out: one held-out set per phase.
        sink: output; with several processes, the sink of the first process gets all results.
        checkpoints: storage of states; None saves nothing. A state fits every layout.
        stop: called at every boundary; a reason (text) makes the run save and stop.
        table_prompts: number of held-out prompts whose sampled responses are tabulated at the end of every
            phase.
        batching: computation of the seeds of one device, see `over_seeds`.
        layout: the devices, see `choose_layout`; None chooses.
        fixed: parameters of the base model for the phases' sources and evaluators, with a leading axis of
            seeds; with several processes, those of the first process.
        start_from_fixed: True to start training from `fixed` instead of fresh parameters.
        early_warning: settings of the early warning; None for no warnings.
        programs: the phases' programs for this layout; None makes them.
        shelf: where a model's passed check is kept, so that the next start need not repeat it.
    """

    def __init__(
        self,
        model: Model,
        phases: Sequence[Phase],
        seeds: Sequence[int],
        evaluators: Sequence[Evaluator],
        held_out: Sequence[HeldOut],
        sink: Sink,
        checkpoints: Checkpoints | None = None,
        stop: Callable[[], str | None] = lambda: None,
        table_prompts: int = 0,
        batching: SeedBatching = "auto",
        layout: Layout | None = None,
        fixed: Params | None = None,
        start_from_fixed: bool = False,
        early_warning: EarlyWarning | None = None,
        programs: Sequence[Program] | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self.model, self.phases, self.seeds, self.sink = model, tuple(phases), tuple(seeds), sink
        self.evaluators, self.held_out = tuple(evaluators), tuple(held_out)
        self.checkpoints, self.stop, self.table_prompts = checkpoints, stop, table_prompts
        self.failed: dict[int, tuple[str, int]] = {}
        self._still: set[tuple[str, int]] = set()
        self._shown: dict[str, float] = {}
        self._start = PhaseStart(self.evaluators, sink)
        self._watch = None if early_warning is None else Watch(early_warning)
        self._saved_at = time.monotonic()
        sizes = {phase.name: phase.batch_size for phase in self.phases}
        self._grid = Grid(layout or choose_layout(len(self.seeds), sizes))
        self._seeds = self._grid.place(np.asarray(self.seeds, np.uint32))
        base = base_of([phase.source for phase in self.phases])
        self._fixed: Params = () if base is None else self._grid.place(of_base(base, self.seeds, fixed))
        self._start_from_fixed = start_from_fixed
        self._shelf = None if start_from_fixed else shelf
        self.programs = list(programs or ()) or [
            make_program(model, phase, self.evaluators, held_out, self._grid, batching)
            for phase, held_out in zip(self.phases, self.held_out, strict=True)
        ]
        self._offsets = np.concatenate([[0], np.cumsum([phase.steps for phase in self.phases])]).tolist()
        self._evaluations = [phase.schedule.steps(phase.steps) for phase in self.phases]
        self._array_steps: dict[int, set[int]] = {}
        self._parameter_steps: list[set[int]] = [set() for _ in self.phases]
        if checkpoints is not None:
            shapes = shapes_of(self.programs[0].init, self._seeds)
            self._parameter_steps = checkpoints.policy.parameter_steps(self._evaluations, disk_bytes(shapes))

    def _first_parameters(self) -> Params:
        if not self._start_from_fixed:
            return self.programs[0].init(self._seeds)
        # A copy, because the memory of the state is donated at the first step.
        return jax.tree.map(jnp.copy, self._fixed)

    def _check_model(self, params: Params) -> None:
        """`check_model` with the parameters of one seed, on prompts of the first held-out set.

        The model is checked as it is trained and as it is evaluated, by the first process, which shares the
        outcome.
        """
        problem = None
        if leads():
            one = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_shards[0].data)[0], params)
            example = self.held_out[0].batches.example
            prompt, mask, response = (
                np.asarray(each)[0] for each in (example.prompt, example.prompt_mask, example.response)
            )
            scored = any(phase.objective.needs_prompt for phase in self.phases)
            try:
                for model in dict.fromkeys((self.model, self.model.tested)):
                    check_model(model, one, prompt, mask, response, scored)
            except ModelError as error:
                problem = str(error)
        problem = share(problem)[0]
        if problem is not None:
            raise ModelError(problem)

    def run(self) -> Outcome:
        """Train from the newest checkpoint, or from the start, to the end.

        Raises:
            TrainingDiverged: once no seed has a finite loss. Saved files stay.
            CheckpointError: the run began with another version of random draws, see `tasks.drawing.DRAWS`.
            ModelError: a model that reads the token it must predict, or samples another law than it scores:
                see `models.check_model`. A resumed run is not checked again.
        """
        start = self._restore()
        if start is None:
            self.sink.rewind(0)
            first, step, state = 0, -1, None
            params = self._first_parameters()
            once(self._shelf, f"checked, seed {self.seeds[0]}", lambda: self._check_model(params))
        else:
            position, restored = start
            position.require_same_draws()
            first, step, params = position.phase, position.step, None
            state = self.programs[first].place(restored)
            self.failed = {seed: (name, at) for seed, name, at in position.failed}
            self.sink.rewind(position.lines)
            if self._watch is not None and leads():
                recorded = self.sink.recorded(self.phases[first].name, step)
                self._watch.recall(self.phases[first].name, self.held_out[first], recorded)
            self.sink.message(f"resuming in phase {self.phases[first].name} after step {step}")
        stopped = None
        for index in range(first, len(self.phases)):
            program = self.programs[index]
            if state is None:
                # A seed that failed in an earlier phase stays frozen.
                failed_at = [self.failed[seed][1] if seed in self.failed else -1 for seed in self.seeds]
                state = program.begin(params, self._grid.place(np.asarray(failed_at, np.int32)))
            state, stopped = self._run_phase(index, program, state, step)
            params, state, step = state.evaluated, None, -1
            if stopped:
                break
        if self.checkpoints is not None:
            self.checkpoints.close()
        return Outcome(params, dict(self.failed), stopped)

    def _restore(self) -> tuple[Position, TrainState] | None:
        if self.checkpoints is None:
            return None

        def abstract(phase: int) -> TrainState:
            params = jax.eval_shape(self.programs[0].init, self._seeds)
            failed_at = jax.ShapeDtypeStruct((len(self.seeds),), jnp.int32)
            return jax.eval_shape(self.programs[phase].begin, params, failed_at)

        found = self.checkpoints.restore(abstract, self.sink.message, self.sink.position())
        if not several():
            return found
        # Only the first process reads files, and shares the result.
        said = share(None if found is None else dataclasses.asdict(found[0]))[0]
        if said is None:
            return None
        position = Position(**said)
        empty = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract(position.phase))
        return position, broadcast(empty if found is None else found[1])

    def _run_phase(
        self, index: int, program: Program, state: TrainState, after: int
    ) -> tuple[TrainState, str | None]:
        """Run the boundaries of the phase after step `after` (-1: from the start)."""
        phase = self.phases[index]
        evaluations = set(phase.schedule.steps(phase.steps))
        self._start.begin(phase.name, resumed=after >= 0)
        began = time.monotonic()
        seconds = {"train": 0.0, "evaluation": 0.0, "save": 0.0}
        pending: _Pending | None = None
        done, stopped, self._shown = max(after, 0), None, {}
        boundaries = [boundary for boundary in phase.boundaries if boundary > after]
        if boundaries:
            # The first calls below compile, and nothing is reported before.
            self.sink.waiting(phase.name, done, phase.steps, "compiling training step and evaluation ...")
        for boundary in boundaries:
            mark = time.monotonic()
            log = None
            if boundary > done:
                state, log = program.run(state, self._seeds, done, boundary, self._fixed)
            scores = program.score(state.evaluated, self._fixed) if boundary in evaluations else None
            # The host reports the previous boundary while the device computes this one.
            self._report(index, pending)
            jax.block_until_ready(log)
            # Read now, because the next step is given the memory of the state.
            pending = _Pending(boundary, log, scores, self._grid.read(state.failed_at))
            trained = time.monotonic()
            jax.block_until_ready(scores)
            evaluated = time.monotonic()
            seconds["train"] += trained - mark
            seconds["evaluation"] += evaluated - trained
            done = boundary
            if boundary in self._parameter_steps[index] and self.checkpoints is not None:
                self.checkpoints.save_parameters(phase.name, boundary, self._grid.read(state.evaluated))
            stopped, save_is_due = self._agree()
            if stopped or boundary == phase.steps or save_is_due:
                self._report(index, pending)
                pending = None
                self._save(index, boundary, state)
            seconds["save"] += time.monotonic() - evaluated
            if stopped:
                break
        self._report(index, pending)
        self.sink.timing(
            {"event": "phase", "phase": phase.name, "from_step": max(after, 0), "to_step": done}
            | {f"{name}_seconds": round(value, 3) for name, value in seconds.items()}
            | {"wall_seconds": round(time.monotonic() - began, 3)}
        )
        if not stopped and self.table_prompts:
            self._tabulate(index, state)
        return state, stopped

    def _report(self, index: int, pending: _Pending | None) -> None:
        """Write the records of a boundary, without failed seeds."""
        if pending is None:
            return
        phase, held_out = self.phases[index], self.held_out[index]
        failed_at = np.asarray(pending.failed_at)
        if pending.scores is not None:
            # An update may break a model after the last finite loss, which the evaluation detects first.
            failed_at = np.where((failed_at < 0) & any_nan(pending.scores), pending.step, failed_at)
        self._note_failures(phase, failed_at)
        alive = [i for i, seed in enumerate(self.seeds) if seed not in self.failed]
        place = {"step": pending.step, "global_step": self._offsets[index] + pending.step}
        heads: list[Record] = [{"phase": phase.name, **place, "seed": seed} for seed in self.seeds]
        info: dict[str, float] = {}
        if pending.log is not None:
            info |= reduce_log(pending.log, phase.source.judges, coverage_ns(self.evaluators), heads, alive)
            self._note_stillness(
                phase, pending.step, [i for i in alive if heads[i]["train/gradient_norm"] == 0]
            )
        if pending.scores is not None and leads():
            self._start.keep(phase.name, pending.step, pending.scores, held_out)
            self._shown, arrays = reduce_scores(
                self.evaluators, pending.scores, held_out, heads, alive, self.sink, self._start.arrays
            )
            self._keep_arrays(index, pending.step, arrays)
            if self._watch is not None:
                self._watch.observe(
                    phase.name, held_out, pending.step, pending.scores, heads, alive, self.sink
                )
        if alive and len(heads[alive[0]]) > 4:
            self.sink.metrics([heads[i] for i in alive])
        reached = {"event": "step", "phase": phase.name, "step": pending.step}
        self.sink.timing(reached | {"time": round(time.time(), 3)})
        # Between evaluations the newest one stays in sight.
        self.sink.progress(phase.name, pending.step, phase.steps, info | self._shown)
        if not alive:
            where = ", ".join(
                f"seed {seed} at step {at} of {name}" for seed, (name, at) in self.failed.items()
            )
            raise TrainingDiverged(f"{NOT_FINITE}: {where}; lower optimizer.learning_rate")

    def _keep_arrays(self, index: int, step: int, arrays: dict[str, np.ndarray]) -> None:
        """Write the per-example arrays of an evaluation if the budget of `log_probs/` includes the step.

        The included steps depend only on the settings and the size of the arrays, so that a resumed run
        includes the same steps.
        """
        if index not in self._array_steps:
            self._array_steps[index] = self._affordable(index, arrays)
        if step in self._array_steps[index]:
            self.sink.arrays(f"{self.phases[index].name}_{step:08d}", arrays)

    def _affordable(self, index: int, arrays: dict[str, np.ndarray]) -> set[int]:
        grid, name = self._evaluations[index], self.phases[index].name
        if self.checkpoints is None:
            return set(grid)
        policy = self.checkpoints.policy
        pairs = [held_out.log_pi.size for held_out in self.held_out]
        others = sum(stored_bytes(held_out_arrays(held_out)) for held_out in self.held_out)
        others += len(self.phases) * self._start.bytes
        kept = policy.evaluation_steps(self._evaluations, pairs, index, stored_bytes(arrays), others)
        if len(kept) < len(grid):
            budget = f"checkpoint.log_probs_mb: {policy.log_probs_mb:g}"
            if self._watch is not None:
                raise ValueError(
                    f"{budget} keeps {len(kept)} of the {len(grid)} evaluations of phase {name}, but "
                    f"early_warning needs all of them, {len(grid) * stored_bytes(arrays) / 1e6:.3g} MB"
                )
            self.sink.message(f"{budget} keeps {len(kept)} of the {len(grid)} evaluations of phase {name}")
        return kept

    def _note_failures(self, phase: Phase, failed_at: np.ndarray) -> None:
        for seed, step in zip(self.seeds, failed_at.tolist(), strict=True):
            if step >= 0 and seed not in self.failed:
                self.failed[seed] = (phase.name, step)
                self.sink.message(
                    f"seed {seed}: loss or gradient not finite at step {step} of {phase.name}; frozen at "
                    f"its last good state"
                )

    def _note_stillness(self, phase: Phase, step: int, still: Sequence[int]) -> None:
        """Report, once per phase and seed, that a seed had gradient 0 over a whole log interval."""
        new = [self.seeds[i] for i in still if (phase.name, self.seeds[i]) not in self._still]
        self._still |= {(phase.name, seed) for seed in new}
        if new:
            first = max((b for b in phase.boundaries if b < step), default=0) + 1
            self.sink.warning(
                "gradient is 0",
                f"seed {', '.join(map(str, new))}: the gradient was exactly 0 at every update from step "
                f"{first} to {step} of {phase.name}: the objective taught nothing there (its weights "
                "underflow, or the responses to every prompt earn the same)",
            )

    def _agree(self) -> tuple[str | None, bool]:
        """(reason to stop of any process, or None; True if a save is due by the first process)."""
        due = (
            self.checkpoints is not None
            and time.monotonic() - self._saved_at >= self.checkpoints.policy.every_seconds
        )
        answers = share([self.stop(), due])
        return next((reason for reason, _ in answers if reason), None), answers[0][1]

    def _save(self, index: int, step: int, state: TrainState) -> None:
        if self.checkpoints is None:
            return
        self.sink.flush()
        failed = [(seed, name, at) for seed, (name, at) in self.failed.items()]
        position = Position(index, step, self.sink.position(), failed, DRAWS)
        self.checkpoints.save(self._offsets[index] + step, position, self._grid.read(state))
        self._saved_at = time.monotonic()

    def _tabulate(self, index: int, state: TrainState) -> None:
        """Tabulate sampled responses of the first seed to a few held-out prompts of every class."""
        params = jax.tree.map(lambda a: a[0], self._grid.read(state.evaluated))
        if leads():
            held_out, first = self.held_out[index], self.seeds[0]
            phase, placed = self.phases[index], jax.device_put(params)
            rows = sample_table(self.model.tested, phase, placed, first, held_out, self.table_prompts)
            self.sink.table("samples", self._offsets[index + 1], COLUMNS, list(rows))
