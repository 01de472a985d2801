"""TailSFT, loss change, PACED and dynamic fine-tuning against plain loops, alone and in the program."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.toy import TabularModel, ToyTask

from metrics.evaluators import Batch
from tasks import Example
from training import (
    CrossEntropy,
    DynamicFineTuning,
    EvaluationSchedule,
    LossChange,
    MultiToken,
    Objective,
    Paced,
    Phase,
    Reweighted,
    Scores,
    TailSFT,
    make_program,
)
from training.batch_loss import batch_loss
from training.feed import responses_of_step
from training.fine_tuning import without_least
from training.mesh import Grid, Layout
from training.objectives import loss_change
from training.old_scores import OldScores
from training.optimizers import sgd
from training.sources import TrainingBatch

pytestmark = pytest.mark.long

H, V = 4, 6
STEPS, SIZE, RATE = 9, 8, 2.0
MODEL = TabularModel(response_length=H)


@dataclasses.dataclass(frozen=True)
class Letters(ToyTask):
    """Random responses of 1 to 4 letters, so that nearly all sequences of a batch differ."""

    response_length = H

    def sample_group(self, key: Any, group: Any) -> Example:
        keys = jax.random.split(key, 3)
        plain = super().sample_group(key, group)
        word = jax.random.randint(keys[0], (), 1, V)
        response = jax.random.randint(keys[1], (H,), 0, V)
        length = jax.random.randint(keys[2], (), 1, H + 1)
        return plain._replace(
            prompt=plain.prompt.at[-1].set(word),
            response=response,
            response_mask=jnp.arange(H) < length,
            log_prob=jnp.zeros(()),
        )


def phase_of(objective: Objective, **changes: Any) -> Phase:
    rule = sgd(steps=STEPS, learning_rate=RATE)
    plain = Phase("tune", Letters(), objective, rule, STEPS, SIZE, None, EvaluationSchedule(0), STEPS)
    return dataclasses.replace(plain, **changes)


# One batch: losses and gradients by a plain loop, in float64.


def laws_of(table: np.ndarray) -> np.ndarray:
    return table - np.log(np.exp(table).sum(axis=-1, keepdims=True))


def plain_step(
    table: np.ndarray,
    batch: TrainingBatch,
    weight_of: Callable[[list[float], int], tuple[float, list[float]]],
    classes: np.ndarray | None = None,
) -> tuple[float, np.ndarray]:
    """Loss and gradient by the table of sum_i w_i sum_t v_it (-ln p_it) / sum_i w_i.

    `weight_of` gives w_i and the v_it, which have no gradient, from the ln p_it of response i.
    """
    laws = laws_of(table)
    total, slope, mass = 0.0, np.zeros_like(table), 0.0
    for i in range(len(batch.prompt)):
        word = int(batch.prompt[i, -1])
        length = int(batch.response_mask[i, 0].sum())
        tokens = [int(y) for y in batch.responses[i, 0, :length]]
        log_ps = [float(laws[word, t, y]) for t, y in enumerate(tokens)]
        weight, inner = weight_of(log_ps, i)
        weight *= 1.0 if classes is None else float(classes[i])
        mass += weight
        for t, y in enumerate(tokens):
            total -= weight * inner[t] * log_ps[t]
            slope[word, t] += weight * inner[t] * np.exp(laws[word, t])
            slope[word, t, y] -= weight * inner[t]
    return total / mass, slope / mass


def mean_loss(log_ps: list[float]) -> float:
    return -math.fsum(log_ps) / max(len(log_ps), 1)


def ragged(size: int = 7) -> TrainingBatch:
    rng = np.random.default_rng(0)
    prompt = np.tile(rng.integers(1, V, (size, 1)), 3)
    responses = rng.integers(0, V, (size, 1, H))
    mask = np.arange(H) < np.array([4, 3, 1, 2, 4, 1, 2])[:size, None, None]
    reference = np.log(rng.uniform(0.05, 1, responses.shape)).astype("f")
    return TrainingBatch(
        prompt, prompt > 0, responses, mask, np.arange(size), None, old=OldScores(reference=reference)
    )  # fmt: skip


BATCH = ragged()
TABLE = np.random.default_rng(1).normal(size=(V, H, V)).astype("f")
CLASSES = np.array([1.0, 2.0, 0.5, 1.0, 1.0, 3.0, 0.7])
KEPT = np.array([True, False, True, True, False, True, False])


def change(log_ps: list[float], i: int) -> float:
    assert BATCH.old.reference is not None
    return mean_loss(log_ps) - mean_loss(BATCH.old.reference[i, 0, : len(log_ps)].tolist())


def p_of(log_ps: list[float]) -> float:
    return math.exp(math.fsum(log_ps))


WEIGHTS: dict[str, tuple[Objective, Callable[[list[float], int], tuple[float, list[float]]]]] = {
    "batch": (CrossEntropy(normalisation="batch"), lambda s, i: (len(s), [1 / len(s)] * len(s))),
    "hard, batch": (
        Reweighted(gamma=1.5, normalisation="batch"),
        lambda s, i: (len(s), [(1 - p_of(s)) ** 1.5 / len(s)] * len(s)),
    ),
    "easy, batch": (
        Reweighted(favour="easy", gamma=0.5, normalisation="batch"),
        lambda s, i: (len(s) * p_of(s) ** 0.5, [1 / len(s)] * len(s)),
    ),
    "tail": (TailSFT(), lambda s, i: (len(s) * KEPT[i], [1 / len(s)] * len(s))),
    "tail, sequences": (TailSFT(normalisation="sequence"), lambda s, i: (float(KEPT[i]), [1.0] * len(s))),
    "tail, token": (TailSFT(normalisation="token"), lambda s, i: (float(KEPT[i]), [1 / len(s)] * len(s))),
    "change": (LossChange(temperature=0.3), lambda s, i: (math.exp(change(s, i) / 0.3), [1.0] * len(s))),
    "change, batch": (
        LossChange(normalisation="batch"),
        lambda s, i: (len(s) * math.exp(change(s, i)), [1 / len(s)] * len(s)),
    ),
    "paced": (Paced(alpha=0.5, beta=2.0), lambda s, i: (p_of(s) ** 0.5 * (1 - p_of(s)) ** 2, [1.0] * len(s))),
    "dft": (DynamicFineTuning(), lambda s, i: (1.0, [math.exp(x) for x in s])),
    "dft, token": (
        DynamicFineTuning(normalisation="token"),
        lambda s, i: (1.0, [math.exp(x) / len(s) for x in s]),
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_losses_and_gradients_are_those_of_a_plain_loop(name: str) -> None:
    objective, weight_of = WEIGHTS[name]
    batch = BATCH._replace(kept=KEPT[:, None])
    params = {"table": jnp.asarray(TABLE), "fuse": jnp.zeros(())}
    # Class weights change the mean of the losses where sequences have no weights of their own.
    classes = CLASSES if objective.weighs else None

    @jax.jit
    def found(params: dict) -> Any:
        given = None if classes is None else tuple(classes)
        return jax.value_and_grad(lambda own: batch_loss(MODEL, objective, own, batch, given))(params)

    value, slope = found(params)
    loss, exact = plain_step(TABLE.astype(np.float64), BATCH, weight_of, classes)
    assert float(value) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(slope["table"], exact, atol=2e-6)
    assert np.abs(exact).max() > 0.01


def test_weights_of_very_unlikely_and_of_certain_sequences() -> None:
    """p of e^-400 in a batch of its like, and a batch of certain sequences: no NaN."""
    far = Scores(jnp.array([[-400.0], [-401.0]]), jnp.ones((2, 1), bool))
    np.testing.assert_allclose(Paced(alpha=2.0).log_weights(far), [-800, -802])
    sure = Scores(jnp.zeros((2, 3)), jnp.ones((2, 3), bool))
    slope = jax.grad(lambda t: jnp.sum(Paced()(sure._replace(tokens=t))))(sure.tokens)
    np.testing.assert_array_equal(slope, np.zeros((2, 3)))
    assert np.isfinite(Paced().log_weights(sure)).all()


def test_limits() -> None:
    scores = Scores(
        jnp.asarray(np.log(np.random.default_rng(2).uniform(0.1, 1, (5, 3))), jnp.float32),
        jnp.arange(3) < jnp.array([3, 1, 2, 3, 2])[:, None],
    )
    easy = Reweighted(favour="easy", gamma=0.7)
    np.testing.assert_allclose(
        Paced(alpha=0.7, beta=0).log_weights(scores), easy.log_weights(scores), rtol=1e-6
    )
    np.testing.assert_array_equal(Paced(alpha=0, beta=0)(scores), CrossEntropy()(scores))
    same = scores._replace(reference=scores.tokens)
    np.testing.assert_array_equal(LossChange()(same), CrossEntropy()(same))
    slopes = jax.grad(lambda t: jnp.sum(DynamicFineTuning()(scores._replace(tokens=t))))(scores.tokens)
    np.testing.assert_allclose(slopes, np.where(scores.mask, -np.exp(scores.tokens), 0), rtol=1e-6)


# The selection.


def plain_kept(margins: list[float], dropped: int) -> list[bool]:
    kept = [True] * len(margins)
    for _ in range(dropped):
        least = min((m, i) for i, m in enumerate(margins) if kept[i])
        kept[least[1]] = False
    return kept


@pytest.mark.parametrize("seed", range(4))
def test_the_smallest_margins_are_dropped_and_of_equal_ones_the_first(seed: int) -> None:
    margins = np.random.default_rng(seed).integers(-2, 3, 9).astype("f")
    for dropped in range(9):
        assert without_least(jnp.asarray(margins), dropped).tolist() == plain_kept(margins.tolist(), dropped)


def test_equal_margins_and_one_that_is_no_number() -> None:
    assert without_least(jnp.zeros(4), 2).tolist() == [False, False, True, True]
    odd = jnp.array([jnp.nan, 1.0, -jnp.inf, jnp.inf])
    assert without_least(odd, 3).tolist() == [True, False, False, False]


@pytest.mark.parametrize("steps", [1, 2, 7, 10, 101])
@pytest.mark.parametrize("sequences", [1, 2, 3, 10, 16])
def test_the_number_dropped(sequences: int, steps: int) -> None:
    for fraction in (0.0, 0.05, 0.25, 0.5, 0.7, 1.0):
        static = TailSFT(filter_fraction=fraction)
        ramp = TailSFT(filter_fraction=fraction, schedule="ramp")
        whole = min(round(sequences * fraction), sequences - 1)
        for t in range(steps):
            now = fraction * t / (steps - 1) if steps > 1 else 0.0
            # Halves that float64 does not hold are left out.
            if abs(sequences * now % 1 - 0.5) > 1e-9 or sequences * fraction * t % (steps - 1) == 0:
                count = min(round(sequences * fraction * t / max(steps - 1, 1)), sequences - 1)
                assert int(ramp.dropped(t, steps, sequences)) == count
            assert int(static.dropped(t, steps, sequences)) == whole
        assert int(ramp.dropped(0, steps, sequences)) == 0
        if steps > 1:
            assert int(ramp.dropped(steps - 1, steps, sequences)) == whole
    assert TailSFT(filter_fraction=1.0).kept(jnp.arange(3.0), 0, 9).tolist() == [False, False, True]


def test_the_change_of_a_loss() -> None:
    tokens = jnp.array([[-1.0, -2.0, jnp.nan], [-5.0, jnp.inf, 1e30], [1.0, 2.0, 3.0]])
    mask = jnp.array([[True, True, False], [True, False, False], [False] * 3])
    reference = jnp.array([[-1.0, -1.0, -1e30], [-6.0, jnp.nan, jnp.inf], [jnp.nan] * 3])
    np.testing.assert_array_equal(loss_change(tokens, reference, mask), [0.5, -1.0, 0.0])
    assert not np.any(Objective.kept(CrossEntropy(), jnp.zeros(2), 0, 1) != 1)


def test_needs() -> None:
    assert (TailSFT().selects, TailSFT().weighs, TailSFT().reference) == (True, True, "tokens")
    plain = TailSFT(filter_fraction=0, normalisation="token")
    assert (plain.selects, plain.weighs, plain.reference) == (False, False, "none")
    assert (LossChange().selects, LossChange().weighs, LossChange().reference) == (False, True, "tokens")
    assert Paced().weighs
    assert Paced().reference == "none"
    assert not DynamicFineTuning().weighs
    scores = Scores(jnp.zeros((1, 2)), jnp.ones((1, 2), bool))
    with pytest.raises(ValueError, match="scores: without kept"):
        TailSFT()(scores)
    with pytest.raises(ValueError, match="scores: without those of the reference"):
        LossChange()(scores)


@pytest.mark.parametrize(
    ("kind", "options", "line"),
    [
        (TailSFT, {"filter_fraction": 1.01}, "objective.filter_fraction: 1.01 is not a number in [0, 1]"),
        (TailSFT, {"schedule": "cosine"}, "objective.schedule: 'cosine' is not one of static, ramp"),
        (TailSFT, {"prompt_weight": -1}, "objective.prompt_weight: -1 is not a number >= 0"),
        (LossChange, {"temperature": 0}, "objective.temperature: 0 is not a positive number"),
        (Paced, {"alpha": -1}, "objective.alpha: -1 is not a number >= 0"),
        (Paced, {"beta": math.inf}, "objective.beta: inf is not a finite number >= 0"),
        (
            MultiToken,
            {"normalisation": "batch"},
            "objective.normalisation: 'batch' is not one of sequence, token, for MultiToken",
        ),
    ],
)
def test_bad_settings_are_refused_in_one_line(kind: type, options: dict, line: str) -> None:
    with pytest.raises(ValueError, match="objective") as refused:
        kind(**options)
    assert str(refused.value) == line


# The program: several steps, parts, devices, seeds.


def trained(
    objective: Objective,
    seeds: tuple[int, ...] = (3,),
    data: int = 1,
    parts: int = 1,
    stops: tuple[int, ...] = (STEPS,),
    **changes: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Tables of the seeds and their mean losses after all steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.program.parts_of_batch", lambda *_: parts)
        grid = Grid(Layout(1, data), local=True)
        held_out: Any = types.SimpleNamespace(batches=Batch((), (), np.arange(4)))  # type: ignore[arg-type]
        program = make_program(MODEL, phase_of(objective, **changes), (), held_out, grid)
        given = jnp.asarray(seeds, jnp.uint32)
        state = program.begin(program.init(given), jnp.full(len(seeds), -1, jnp.int32))
        for start, stop in zip((0, *stops), stops, strict=False):
            state, log = program.run(state, given, start, stop)
    return np.asarray(state.params["table"]), np.asarray(log.loss)


def by_hand(objective: TailSFT, seed: int) -> tuple[np.ndarray, float]:
    """The same by a loop over sequences: margins, selection, token-averaged loss, gradient descent."""
    phase = phase_of(objective)
    table = first_table(seed)
    start, losses = table.copy(), []
    draw = jax.jit(lambda step: responses_of_step(phase, jnp.uint32(seed), step))
    for step in range(STEPS):
        batch = jax.tree.map(np.asarray, draw(step))
        margins = []
        for i in range(SIZE):
            word, length = int(batch.prompt[i, -1]), int(batch.response_mask[i, 0].sum())
            spots = [(word, t, int(batch.responses[i, 0, t])) for t in range(length)]
            now, then = ([float(laws_of(own)[spot]) for spot in spots] for own in (table, start))
            margins.append(mean_loss(now) - mean_loss(then))
        fraction = objective.filter_fraction
        if objective.schedule == "ramp":
            fraction *= step / (STEPS - 1)
        kept = plain_kept(margins, min(round(SIZE * fraction), SIZE - 1))
        loss, slope = plain_step(
            table, batch, lambda s, i, kept=kept: (len(s) * kept[i], [1 / len(s)] * len(s))
        )
        losses.append(loss)
        table = table - RATE * slope
    return table, math.fsum(losses) / STEPS


def first_table(seed: int) -> np.ndarray:
    program = make_program(MODEL, phase_of(CrossEntropy()), (), lambda: None, 1)  # type: ignore[arg-type, return-value]
    return np.asarray(program.init(jnp.asarray([seed], jnp.uint32))["table"][0], np.float64)


TAILS = {
    "static": TailSFT(filter_fraction=0.25),
    "ramp": TailSFT(filter_fraction=0.75, schedule="ramp"),
    "one left": TailSFT(filter_fraction=1.0),
}


@pytest.mark.parametrize("name", TAILS)
def test_training_is_that_of_a_plain_loop_in_parts_and_on_devices(name: str) -> None:
    table, loss = by_hand(TAILS[name], 3)
    for data, parts in ((1, 1), (1, 4), (4, 2)):
        found, losses = trained(TAILS[name], data=data, parts=parts)
        np.testing.assert_allclose(found[0], table, atol=2e-4)
        assert losses[0] == pytest.approx(loss, rel=1e-4)
    plain, _ = trained(CrossEntropy(normalisation="batch"))
    assert np.abs(plain[0] - table).max() > 0.1


@pytest.mark.parametrize("normalisation", ["sequence", "token", "batch"])
def test_no_fraction_is_cross_entropy_to_the_bit(normalisation: Any) -> None:
    none = trained(TailSFT(filter_fraction=0, normalisation=normalisation), parts=2)
    plain = trained(CrossEntropy(normalisation=normalisation), parts=2)
    for mine, other in zip(none, plain, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("objective", [TailSFT(schedule="ramp"), LossChange()], ids=["tail", "change"])
def test_seeds_together_are_seeds_alone_and_chunks_change_no_bit(objective: Objective) -> None:
    both, losses = trained(objective, (3, 5))
    for place, seed in enumerate((3, 5)):
        alone, loss = trained(objective, (seed,))
        np.testing.assert_allclose(alone[0], both[place], rtol=1e-5, atol=1e-6)
        assert loss[0] == pytest.approx(losses[place], rel=1e-5)
    assert np.abs(both[0] - both[1]).max() > 0.1
    np.testing.assert_array_equal(trained(objective, (3, 5), stops=(2, 7, STEPS))[0], both)


def test_a_fixed_set_is_selected_from_too() -> None:
    """One prompt, drawn over and over: all margins are equal, and nothing changes but the tokens counted."""
    tail, _ = trained(TailSFT(), dataset_size=1)
    plain, _ = trained(CrossEntropy(normalisation="batch"), dataset_size=1)
    np.testing.assert_allclose(tail, plain, atol=1e-5)
