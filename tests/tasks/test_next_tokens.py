"""Next-token laws of bracket strings, against sums over all strings."""

import dataclasses
from fractions import Fraction

import jax
import numpy as np
import pytest
from oracles import brackets
from oracles.bracket_inputs import latent_of, padded

from tasks import BracketTask, Dyck, FixedDyck
from tasks.bracket_state import empty_stack

TASKS = [
    (Dyck(max_depth=2, max_length=7), brackets.dyck_law(2, 2, 3, 7)),
    (FixedDyck(length=8, max_depth=3), brackets.fixed_law((Fraction(1, 5), Fraction(4, 5)), 3, 8)),
]


@pytest.mark.long
@pytest.mark.parametrize(("task", "law"), TASKS, ids=["dyck", "fixed"])
def test_next_token_laws_are_sums_over_all_strings(
    task: BracketTask, law: dict[brackets.String, Fraction]
) -> None:
    """At every prefix of given strings: P(next word | prefix), and nothing after END or a wrong bracket."""
    whole = dataclasses.replace(task, prefix_lengths=(0, 0))
    assert whole.knows_next_tokens
    wrong = ("( ]", "( ( ( (", ")")
    strings = [*list(law)[:: max(1, len(law) // 40)], *(tuple(text.split()) for text in wrong)]
    rows = np.stack([padded(whole, " ".join(string), whole.response_length) for string in strings])
    latent = empty_stack(1)
    found = np.asarray(jax.jit(jax.vmap(lambda row: whole.next_log_probs(latent, row)))(rows))
    assert found.shape == (*rows.shape, whole.vocab_size)
    for row, string in zip(np.exp(found), strings, strict=True):
        for place in range(whole.response_length):
            head = string[:place]
            mass = {own: p for own, p in law.items() if own[:place] == head and len(own) > place}
            expected = np.zeros(whole.vocab_size)
            # Beyond the end of a short wrong string there is padding, which is no word.
            if place <= len(string):
                for own, p in mass.items():
                    expected[whole.encode(own[place])[0]] += float(p / sum(mass.values()))
            np.testing.assert_allclose(row[place], expected, atol=1e-6)


def test_next_token_laws_after_a_prompt_are_those_inside_the_string() -> None:
    task, texts = FixedDyck(length=8, max_depth=3), ("] ( ) )", "( ) ] )")
    own = np.stack([padded(task, text, 8) for text in texts])
    whole = np.stack([padded(task, f"( [ ] [ {text}", 8) for text in texts])
    run = jax.jit(lambda latent, rows: jax.vmap(task.next_log_probs, (None, 0))(latent, rows))
    given, inside = run(latent_of(4, (0, 1), (0, 3)), own), run(latent_of(0, (), ()), whole)
    np.testing.assert_allclose(np.exp(given[:, :4]), np.exp(inside[:, 4:]), rtol=1e-6)
    assert np.all(np.exp(given[:, :4]).sum(-1) > 0.99)
    assert np.all(np.exp(given[:, 4:]) == 0)
