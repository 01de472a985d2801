"""Every model of conf/model/, and two Flax modules that know nothing of this project, under one contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import flax_modules

from covlab.launch.build import build
from covlab.launch.composing import compose
from covlab.testing import model_contract
from covlab.testing.models import ModelTests
from models import GPT, Flax, Model
from tasks import PathStar, Task

pytestmark = pytest.mark.long

FOLDER = Path(__file__).parents[2] / "conf" / "model"
TASK = PathStar(arms=2, path_length=3, num_ids=8)
SMALL = {"num_layers": 2, "num_heads": 2, "width": 16}
"""Values of the fields that set a model's size, for every model that has them."""
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def built(name: str) -> tuple[Model, Task]:
    """A model of conf/model/ in a small size, with its task."""
    task = ("task=autoregressive_linear",) if name == "linear" else ("task=path_star", *fields_of_task())
    module = ("model.module._target_=oracles.flax_modules.GRU",) if name == "flax" else ()
    config = compose("train", [f"model={name}", *task, *module]).config
    for node in (config.model, config.model.get("module", {})):
        for field, value in SMALL.items():
            if field in node:
                node[field] = value
    setup = build(config)
    return setup.model, setup.phases[0].task


def fields_of_task() -> list[str]:
    return [f"task.{name}={getattr(TASK, name)}" for name in ("arms", "path_length", "num_ids")]


def cases() -> list[Any]:
    """Configurations that differ in size alone are one case."""
    found: dict[Any, list[str]] = {}
    for name in NAMES:
        found.setdefault(built(name), []).append(name)
    return [pytest.param(*case, id="+".join(names)) for case, names in found.items()]


@pytest.mark.parametrize(("model", "task"), cases())
class TestConfiguredModels(ModelTests):
    pass


TestOutsideGRU = model_contract(flax_modules.GRU, TASK, width=16)
TestOutsideTransformer = model_contract(flax_modules.Transformer, TASK, num_layers=2)
TestBfloat16 = model_contract(GPT, TASK, dtype="bfloat16", **SMALL)


@pytest.mark.parametrize("kind", [flax_modules.GRU, flax_modules.Transformer, flax_modules.Frequencies])
def test_logits_depend_by_gradients_on_earlier_tokens_and_on_no_later_one(kind: type) -> None:
    """With distinct tokens, row v of the embedding table is input v alone."""
    sizes = {"vocab_size": 17, "prompt_length": 6, "response_length": 4}
    model = Flax(**sizes, module=kind)
    tokens = np.random.default_rng(0).permutation(np.arange(1, 17))[:10].astype(np.int32)
    mask = np.arange(6) >= 2
    prompt, response = np.where(mask, tokens[:6], 0), tokens[6:]
    params = model.init(jax.random.key(0))
    name = next(name for name in ("embed", "Embed_0") if name in params)

    def at(table: Any) -> Any:
        changed = params | {name: {"embedding": table}}
        logits = model.logits(changed, prompt[None], mask[None], response[None, None])
        return jnp.sin(logits[0, 0]).sum(axis=-1)

    gradient = np.asarray(jax.jit(jax.jacrev(at))(params[name]["embedding"]))
    sizes_of = np.abs(gradient).sum(axis=2)
    assert np.isfinite(sizes_of).all()
    for position in range(4):
        seen = [*prompt[2:], *response[:position]]
        read = seen[-1:] if kind is flax_modules.Frequencies else seen
        assert sizes_of[position, read].min() > 0
        unseen = sorted(set(range(17)) - set(seen))
        assert np.all(sizes_of[position, unseen] == 0)


@pytest.mark.parametrize("kind", [flax_modules.GRU, flax_modules.Transformer])
def test_the_amount_of_padding_has_no_influence(kind: type) -> None:
    """Logits are those of the module on the real tokens alone."""
    model = Flax(vocab_size=9, prompt_length=5, response_length=3, module=kind)
    rng, params = np.random.default_rng(0), model.init(jax.random.key(0))
    prompt, responses = rng.integers(1, 9, (3, 5)), rng.integers(1, 9, (3, 2, 3))
    lengths = (5, 2, 1)
    mask = np.arange(5) >= 5 - np.array(lengths)[:, None]
    logits, of_prompt = (
        model.logits(params, prompt, mask, responses),
        model.prompt_logits(params, prompt, mask),
    )
    one = model.logits(params, prompt, mask, responses[:, 1:])
    np.testing.assert_allclose(one[:, 0], logits[:, 1], rtol=1e-4, atol=1e-5)
    for row, length in enumerate(lengths):
        for candidate in range(2):
            tokens = np.concatenate([prompt[row, 5 - length :], responses[row, candidate, :-1]])[None]
            alone = np.asarray(model._network.logits(params, tokens, np.ones(tokens.shape, bool)))[0]
            np.testing.assert_allclose(logits[row, candidate], alone[length - 1 :], rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(
                of_prompt[row, 5 - length :], alone[: length - 1], rtol=1e-4, atol=1e-5
            )
