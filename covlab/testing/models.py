"""The contract of a model, on examples of a task."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from covlab.testing.drawing import draw
from decoding.sampling import sample_responses
from models import Flax, Model, check_model, sequence_log_probs
from models.flax_network import is_flax_module
from tasks import Task, stream
from training.parameter_files import read_parameters, write_parameters

EXAMPLES = 8
SAMPLES = 4


def model_contract(kind: Any, task: Task, **fields: Any) -> type:
    """Tests of a model, to be given a name that begins with `Test`.

    Args:
        kind: a class of models, to which the vocabulary and the lengths are given by name, as from a
            configuration; or a class of Flax modules (`models.Flax`).
        task: the task whose examples the model reads.
        fields: the other fields of the class.
    """
    sizes = {name: getattr(task, name) for name in ("vocab_size", "prompt_length", "response_length")}
    if is_flax_module(kind):
        model: Model = Flax(**sizes, module=functools.partial(kind, **fields))
    else:
        model = kind(**sizes, **fields).for_task(task)
    params = [pytest.param(model, task, id=model.label)]
    tests: type = pytest.mark.parametrize(("model", "task"), params)(type("TestModel", (ModelTests,), {}))
    return tests


class ModelTests:
    """The tests of one model."""

    def test_it_is_a_static_argument(self, model: Model, task: Task) -> None:
        again = copy.copy(model)
        assert again == model
        assert hash(again) == hash(model)

    def test_it_predicts_from_earlier_tokens_and_samples_what_it_scores(
        self, model: Model, task: Task
    ) -> None:
        """`check_model`, which every training run asks too."""
        example = draw(task, EXAMPLES, "contract")
        params = jax.tree.map(np.asarray, model.init(stream(0, "init")))
        prompts_too = model.prompt_length > 1
        check_model(model, params, example.prompt, example.prompt_mask, example.response, prompts_too)

    def test_samples_have_the_probabilities_that_the_model_gives_them(self, model: Model, task: Task) -> None:
        example, params = draw(task, EXAMPLES, "contract"), model.init(stream(0, "init"))
        drawn, log_probs = sample_responses(
            model, params, example.prompt, example.prompt_mask, stream(1, "contract"), SAMPLES
        )
        assert drawn.shape == (EXAMPLES, SAMPLES, task.response_length)
        assert drawn.min() >= 0
        assert drawn.max() < task.vocab_size
        mask = jnp.ones(drawn.shape, bool)
        score = jax.jit(sequence_log_probs, static_argnums=0)
        scored = score(model, params, example.prompt, example.prompt_mask, drawn, mask)
        np.testing.assert_allclose(log_probs, scored, rtol=1e-3, atol=1e-2)

    def test_candidates_and_samples_share_the_prompt_and_nothing_else(self, model: Model, task: Task) -> None:
        """Every response has the logits that it has alone, in `logits` and in `step`."""
        example, params = draw(task, EXAMPLES, "contract"), model.init(stream(0, "init"))
        prompt, mask = example.prompt[:2], example.prompt_mask[:2]
        responses = np.stack([example.response[row : row + 2] for row in range(3)], axis=1)
        logits = jax.jit(model.logits)
        together = np.asarray(logits(params, prompt, mask, responses))
        near = 1e-2 * float(np.ptp(together[np.isfinite(together)]))
        for row in range(3):
            alone = logits(params, prompt, mask, responses[:, row : row + 1])
            np.testing.assert_allclose(together[:, row], alone[:, 0], rtol=1e-2, atol=near)
        step = jax.jit(model.step)
        cache = model.start(params, prompt, mask, 3)
        tokens = np.broadcast_to(prompt[:, -1:], responses.shape[:2])
        for position in range(responses.shape[2]):
            stepped, cache = step(params, cache, tokens, np.full(tokens.shape, position, np.int32))
            np.testing.assert_allclose(stepped, together[:, :, position], rtol=1e-2, atol=near)
            tokens = responses[:, :, position]

    def test_tokens_at_padding_have_no_influence(self, model: Model, task: Task) -> None:
        example, params = draw(task, EXAMPLES, "contract"), model.init(stream(0, "init"))
        prompt, mask = np.array(example.prompt), np.array(example.prompt_mask)
        # The last token of a prompt is always real.
        mask[0, :-1] = False
        other = np.where(mask, prompt, (prompt + 1) % task.vocab_size)
        logits = jax.jit(model.logits)
        expected = logits(params, prompt, mask, example.response[:, None])
        found = logits(params, other, mask, example.response[:, None])
        np.testing.assert_array_equal(found, expected)

    def test_parameters_are_saved_and_restored(self, model: Model, task: Task, tmp_path: Path) -> None:
        params = jax.tree.map(np.asarray, model.init(stream(0, "init")))
        write_parameters(tmp_path / "parameters.npz", params)
        shapes = jax.eval_shape(model.init, stream(0, "init"))
        restored = read_parameters(tmp_path / "parameters.npz", shapes)
        # Also compares the trees' structures.
        jax.tree.map(np.testing.assert_array_equal, restored, params)

    def test_seeds_train_side_by_side(self, model: Model, task: Task) -> None:
        """Two seeds under `vmap` have the losses that they have alone, and descend."""
        example = draw(task, EXAMPLES, "contract")

        def loss(params: Any) -> Any:
            log_probs = sequence_log_probs(
                model,
                params,
                example.prompt,
                example.prompt_mask,
                example.response[:, None],
                example.response_mask[:, None],
            )
            return -jnp.mean(log_probs)

        def descended(params: Any) -> tuple[Any, Any, Any]:
            value, slope = jax.value_and_grad(loss)(params)
            norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(slope)))
            moved = jax.tree.map(lambda leaf, step: leaf - 0.01 * step / norm, params, slope)
            return value, norm, loss(moved)

        keys = jax.random.split(stream(0, "init"), 2)
        together = jax.lax.map(model.init, keys)
        before, norms, after = jax.jit(jax.vmap(descended))(together)
        assert np.all(np.isfinite(before))
        assert np.all(np.isfinite(norms))
        assert np.all(np.asarray(norms) > 0), "no parameter has an effect on the loss"
        assert np.all(after < before), "a small step against the gradient does not lower the loss"
        alone = jax.jit(lambda key: loss(model.init(key)))
        np.testing.assert_allclose(before, [alone(key) for key in keys], rtol=1e-3)
