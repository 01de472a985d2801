"""Bracket strings: published entropies, brute force over all strings, the base model's tree, bad input."""

import itertools
import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import brackets
from oracles.bracket_inputs import latent_of, padded

from covlab.testing.drawing import draw, take
from covlab.testing.statistics import chi_square_p
from tasks import BracketLatent, BracketTask, Dyck, Example, FixedDyck
from tasks.bracket_state import empty_stack, parse

DYCK = Dyck(max_depth=2, max_length=7, prefix_lengths=(0, 3))
FIXED = FixedDyck(length=8, max_depth=3, prefix_lengths=(0, 5))
DYCK_LAW = brackets.dyck_law(2, 2, 3, 7)
FIXED_LAW = brackets.fixed_law((Fraction(1, 5), Fraction(4, 5)), 3, 8)
BOTH = pytest.mark.parametrize(("task", "law"), [(DYCK, DYCK_LAW), (FIXED, FIXED_LAW)], ids=["dyck", "fixed"])


def drawn_of(task: BracketTask) -> Example:
    return draw(task, 6000)


def surprise(law: dict[Any, Fraction]) -> float:
    return math.fsum(-float(p) * math.log(p) for p in law.values() if p)


@pytest.mark.parametrize(
    ("task", "entropy"),
    [
        (Dyck(), 10.9950),
        (Dyck(num_types=8), 19.2377),
        (Dyck(max_length=85), 11.0071),
        (Dyck(num_types=8, max_length=85), 19.2592),
        (FixedDyck(), 23.9788),
        (FixedDyck(type_probs=(0.5, 0.5)), 27.0627),
    ],
)
def test_entropies_are_the_published_ones(task: BracketTask, entropy: float) -> None:
    """84 tokens with END counted, and 84 brackets, for Dyck-(k, 3)."""
    assert task.string_entropy == pytest.approx(entropy, abs=5e-5)


def test_mean_length_is_the_published_one() -> None:
    assert Dyck().mean_length == pytest.approx(12.892, abs=5e-4)
    assert FixedDyck().mean_length == 32


def test_longest_strings_do_not_underflow() -> None:
    """Strings of 1000 brackets at depth 1 have probability 2^-501 before conditioning."""
    task = Dyck(num_types=1, max_depth=1, min_length=2201, max_length=2201)
    assert task.string_entropy == pytest.approx(0, abs=1e-9)
    assert task.mean_length == pytest.approx(2201)


@BOTH
def test_entropy_and_mean_length_are_the_sums_over_all_strings(
    task: BracketTask, law: dict[brackets.String, Fraction]
) -> None:
    assert sum(law.values()) == 1
    assert task.string_entropy == pytest.approx(surprise(law), abs=1e-12)
    mean = float(sum(p * len(string) for string, p in law.items()))
    assert task.mean_length == pytest.approx(mean, abs=1e-12)


def test_states_of_a_response_name_type_and_place_of_the_innermost_open_bracket() -> None:
    """The string "[ ( ) ] [ ]" from its second bracket on."""
    response = jnp.asarray(DYCK.encode("( ) ] [ ]"), jnp.int32)
    parsed = jax.jit(lambda latent: parse(DYCK.text, latent, response))(latent_of(1, (1,), (0,)))
    assert parsed.depth.tolist() == [1, 2, 1, 0, 1, 0]
    assert parsed.top.tolist() == [1, 0, 1, -1, 1, -1]
    assert parsed.opened.tolist() == [0, 1, 0, -1, 4, -1]
    assert parsed.legal.all()


def words(task: BracketTask, tokens: np.ndarray) -> brackets.String:
    return tuple(task.decode(tokens).split())


@pytest.mark.long
@BOTH
def test_entropy_of_a_prompt_is_that_of_its_completions(
    task: BracketTask, law: dict[brackets.String, Fraction]
) -> None:
    examples = take(drawn_of(task), slice(2000))
    entropy = np.asarray(jax.vmap(task.entropy)(examples.latent))
    prefixes = [words(task, prompt)[1:] for prompt in examples.prompt]
    completed = {prefix: brackets.given_prefix(law, prefix) for prefix in set(prefixes)}
    assert {len(prefix) for prefix in prefixes} == set(range(task.prompt_length))
    for found, prefix in zip(entropy, prefixes, strict=True):
        assert found == pytest.approx(surprise(completed[prefix]), abs=1e-5)
    by_length = []
    for length in range(task.prompt_length):
        long = {string: p for string, p in law.items() if len([w for w in string if w != "$"]) >= length}
        heads: dict[brackets.String, Fraction] = {}
        for string, p in long.items():
            heads[string[:length]] = heads.get(string[:length], Fraction()) + p / sum(long.values())
        by_length.append(
            sum(float(p) * surprise(brackets.given_prefix(law, head)) for head, p in heads.items())
        )
    assert task.group_entropy("drawn") == pytest.approx(np.mean(by_length), abs=1e-10)


def test_entropy_after_a_given_prefix() -> None:
    # The string is "[ ( ) ]", "[ [ ] ]", "[ ] ( )" or "[ ] [ ]": a fair choice of the place, then a type.
    task = FixedDyck(length=4, max_depth=2, type_probs=(0.25, 0.75), mixture={"given": 1.0}, prefix="[")
    one_type = -(math.log(0.25) + 3 * math.log(0.75)) / 4
    assert task.group_entropy("given") == pytest.approx(math.log(2) + one_type)


def joined_p(drawn: list[Any], law: dict[Any, Fraction], truth: dict[Any, Fraction]) -> float:
    """Chi-square against `law`, outcomes of fewer than 5 expected draws under `truth` joined."""
    often = {outcome for outcome, p in truth.items() if p * len(drawn) >= 5}
    cells = {outcome: float(law[outcome]) for outcome in often}
    cells["rare"] = float(sum(p for outcome, p in law.items() if outcome not in often))
    assert set(drawn) <= set(truth)
    return chi_square_p([outcome if outcome in often else "rare" for outcome in drawn], cells)


def test_strings_and_their_prefixes_have_the_frequencies_of_the_conditioned_law() -> None:
    """Law of prompt and response together: p is uniform, given that the string has at least p brackets."""
    joint: dict[tuple[int, brackets.String], Fraction] = {}
    naive = dict(joint)
    for length in range(4):
        long = sum(p for string, p in DYCK_LAW.items() if len(string) > length)
        for string, p in DYCK_LAW.items():
            joint[length, string] = p / long / 4 if len(string) > length else Fraction()
            naive[length, string] = p / 4
    drawn = [
        (len(prompt) - 1, prompt[1:] + response)
        for prompt, response in (
            (words(DYCK, p), words(DYCK, y))
            for p, y in zip(drawn_of(DYCK).prompt, drawn_of(DYCK).response, strict=True)
        )
    ]
    assert joined_p(drawn, joint, joint) > 1e-3
    assert joined_p(drawn, naive, joint) < 1e-6, "the test has no power against an unconditioned prefix"


def test_fixed_strings_have_the_frequencies_of_the_sampler() -> None:
    strings = [
        words(FIXED, prompt)[1:] + words(FIXED, response)
        for prompt, response in zip(drawn_of(FIXED).prompt, drawn_of(FIXED).response, strict=True)
    ]
    wrong = brackets.fixed_law((Fraction(1, 4), Fraction(3, 4)), 3, 8)
    assert joined_p(strings, FIXED_LAW, FIXED_LAW) > 1e-3
    assert joined_p(strings, wrong, FIXED_LAW) < 1e-6


# The base model that is known, values and counts, at every prefix of a small tree.

TREES = [
    pytest.param(Dyck(num_types=1, max_depth=1, max_length=5, noise=0.25), "()$", id="dyck"),
    pytest.param(FixedDyck(length=4, max_depth=1, noise=0.1, reward_depth=True), "([)]", id="fixed"),
]


@pytest.mark.long
@pytest.mark.parametrize(("task", "alphabet"), TREES)
def test_base_model_values_and_counts_are_those_of_the_tree(task: BracketTask, alphabet: str) -> None:
    tokens = task.response_length
    if task.end_token is None:
        law = brackets.fixed_law((Fraction(1, 5), Fraction(4, 5)), task.max_depth, tokens)
        rewarded = set(brackets.balanced(2, [tokens]))
    else:
        law = brackets.dyck_law(1, task.max_depth, 3, tokens)
        rewarded = {(*string, "$") for string in brackets.balanced(1, range(2, tokens, 2))}
    if task.reward_depth:
        rewarded = {string for string in rewarded if brackets.deepest(string) <= task.max_depth}
    model = brackets.NoisyModel(law, alphabet, Fraction(task.noise).limit_denominator(100), tokens, rewarded)
    prefixes = [string for size in range(tokens + 1) for string in itertools.product(alphabet, repeat=size)]
    rows = np.array([task.encode(" ".join(p)) + [0] * (tokens - len(p)) for p in prefixes], np.int32)
    sizes = np.array([len(p) for p in prefixes], np.int32)
    latent = empty_stack(1)

    @jax.jit
    @jax.vmap
    def found(row: jax.Array, size: jax.Array) -> tuple[jax.Array, ...]:
        return (
            task.reference_log_probs(latent, row, size),
            task.value(latent, row, size),
            task.log_num_completions(latent, row, size),
            task.reward(latent, row),
        )

    log_probs, values, counts, rewards = (np.asarray(a) for a in found(rows, sizes))
    assert np.all(log_probs[:, [0, -1]] == -np.inf)
    for i, prefix in enumerate(prefixes):
        ended = "$" in prefix
        if len(prefix) < tokens and not ended:
            expected = [float(p) for p in model.reference(prefix).values()]
            np.testing.assert_allclose(np.exp(log_probs[i, 1:-1]), expected, atol=1e-6)
        assert values[i] == pytest.approx(float(model.value(prefix)), abs=1e-6), prefix
        number = sum(string[: len(prefix)] == prefix for string in rewarded)
        assert np.exp(counts[i]) == pytest.approx(number, rel=1e-5), prefix
        assert rewards[i] == (prefix in rewarded)
        if not ended:
            assert task.num_completions(" ".join(prefix)) == number
    assert 0 < values[0] < 1


def test_values_follow_the_prompt() -> None:
    """A response after a prompt has the value of the whole string after none."""
    task = FixedDyck(length=8, max_depth=3)
    texts = ("", "]", "] ( )", "] )", ")", "( ) ] )")
    own = np.stack([padded(task, text, 8) for text in texts])
    whole = np.stack([padded(task, f"( [ ] [ {text}", 8) for text in texts])
    sizes = np.array([len(text.split()) for text in texts], np.int32)

    @jax.jit
    def numbers(latent: BracketLatent, rows: jax.Array, sizes: jax.Array) -> tuple[jax.Array, ...]:
        methods = (task.value, task.reference_log_probs, task.log_num_completions)
        return tuple(jax.vmap(method, (None, 0, 0))(latent, rows, sizes) for method in methods)

    given = numbers(latent_of(4, (0, 1), (0, 3)), own, sizes)
    for one, other in zip(given, numbers(latent_of(0, (), ()), whole, sizes + 4), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert np.isfinite(given[2]).tolist() == [True, True, True, True, False, True]


@pytest.mark.parametrize(("task", "cap"), [(Dyck(max_length=9), 3), (FixedDyck(length=8), None)])
def test_number_of_strings_is_exact(task: BracketTask, cap: int | None) -> None:
    lengths = [2, 4, 6, 8] if task.end_token else [8]
    strings = brackets.balanced(2, lengths)
    assert task.num_completions("") == len(strings)
    assert task.num_completions("( [ ]") == sum(s[:3] == ("(", "[", "]") for s in strings)
    assert task.num_completions("( ]") == task.num_completions("( (" * 5) == 0
    within = type(task)(**{"reward_depth": True, "max_depth": 2, **sizes_of(task)})
    assert within.num_completions("") == sum(brackets.deepest(s) <= 2 for s in strings)


def sizes_of(task: BracketTask) -> dict[str, Any]:
    return {"max_length": task.max_length} if isinstance(task, Dyck) else {"length": 8}


def test_counts_beyond_float_are_exact() -> None:
    """The Catalan number times 2^n."""
    assert FixedDyck(length=200).num_completions("") == math.comb(200, 100) // 101 * 2**100


# Prompts, sizes, text.


def test_innermost_open_brackets_are_found_in_response_and_prompt() -> None:
    task = FixedDyck(length=10)
    latent = latent_of(4, (0, 0), (0, 1))
    rows = np.stack([padded(task, text, 6) for text in ("[ ( ) ] ) )", ") [ ] ( ]", "] [ ( )")])
    distance, close = jax.jit(jax.vmap(task.innermost, (None, 0)))(latent, rows)
    assert distance[0].tolist() == [3, 1, 1, 3, 7, 9]
    assert task.decode(close[0]) == ") ] ) ] ) )"
    assert distance[1].tolist() == [3, 5, 1, 7, 1, 0], "padding has no bracket to close"
    assert distance[2].tolist() == [3, 0, 0, 0, 0, 0], "what follows a wrong bracket has no stack"


@pytest.mark.long
def test_kinds_of_prompts() -> None:
    task = FixedDyck(
        length=8, max_depth=3, mixture={"cap": 0.5, "given": 0.5, "drawn": 0.0}, prefix="[ [ ] ( ("
    )
    assert task.groups == ("cap", "given")
    assert (task.prompt_length, task.response_length) == (6, 8)
    examples = draw(task, 2000)
    prompts = [task.decode(prompt) for prompt in examples.prompt]
    given = {prompt for prompt, group in zip(prompts, examples.group, strict=True) if group == 1}
    assert given == {"^ [ [ ] ( ("}
    caps = [prompt.split()[1:] for prompt, group in zip(prompts, examples.group, strict=True) if group == 0]
    law = {("[",) * 3: 0.512, ("other",): 0.488}
    drawn = [("[",) * 3 if cap == ["["] * 3 else ("other",) for cap in caps]
    assert {word for cap in caps for word in cap} == {"(", "["}
    assert chi_square_p(drawn, law) > 1e-3
    left = np.asarray(jax.vmap(task.max_tokens)(examples.latent))
    assert np.array_equal(left, np.where(examples.group == 0, 5, 3))
    assert np.array_equal(left, examples.response_mask.sum(axis=1))
    latent = take(examples.latent, examples.group == 1)
    assert np.all(latent.stack == [1, 0, 0])
    assert np.all(latent.opened == [0, 3, 4])
    assert np.all(latent.depth == 3)


def test_kinds_of_probability_zero_keep_their_room() -> None:
    train = FixedDyck(mixture={"drawn": 1.0, "cap": 0.0})
    test = FixedDyck(mixture={"drawn": 0.0, "cap": 1.0})
    for field in ("vocab_size", "prompt_length", "response_length"):
        assert getattr(train, field) == getattr(test, field)
    assert train.prompt_length == 13
    assert FixedDyck().prompt_length == 1
    assert train.groups == ("drawn",)


def test_end_of_a_response() -> None:
    assert DYCK.end_token == 5
    assert DYCK.response_tokens == (1, 2, 3, 4, 5)
    assert DYCK.decode([5, 6]) == "$ ^"
    assert FIXED.end_token is None
    assert FIXED.response_tokens == (1, 2, 3, 4)
    assert Dyck().response_length == 83, "84 tokens would be an odd number of brackets and END"
    examples = drawn_of(DYCK)
    ends = np.asarray(examples.response == 5)
    assert np.array_equal(ends.sum(axis=1), np.ones(6000))
    assert np.array_equal(np.argmax(ends, axis=1), examples.response_mask.sum(axis=1) - 1)


def test_a_response_is_trimmed_at_its_end() -> None:
    latent = latent_of(4, (0, 1), (0, 3))
    trimmed = jax.jit(DYCK.trimmed)(latent, np.array([4, 3, 5, 1, 5, 5, 2], np.int32))
    assert DYCK.decode(trimmed) == "] ) $"
    assert trimmed.tolist() == [4, 3, 5, 0, 0, 0, 0]
    assert DYCK.decode(jax.jit(DYCK.trimmed)(latent, np.full(7, 1, np.int32))) == "( ( (", "7 - 4 tokens"
    assert FIXED.decode(jax.jit(FIXED.trimmed)(latent, np.full(8, 4, np.int32))) == "] ] ] ]"


def test_text_needs_no_blanks_between_brackets_of_one_character() -> None:
    task = FixedDyck(num_types=6, type_probs=(0.1, 0.1, 0.1, 0.1, 0.1, 0.5))
    assert task.encode("([{<") == [1, 2, 3, 4] == task.encode("( [ {<")
    assert task.decode(task.encode("<> (6 (5 )5 )6")) == "< > (6 (5 )5 )6"
    with pytest.raises(ValueError, match=r"text: '\)7' is no token; valid are"):
        task.encode("( )7")


BAD = [
    (FixedDyck, {"length": 7}, "task.length: 7 is odd; a balanced string has an even number"),
    (FixedDyck, {"length": 0}, "task.length: 0 is not an integer >= 2"),
    (FixedDyck, {"max_depth": 0}, "task.max_depth: 0 is not an integer >= 1"),
    (Dyck, {"num_types": 0}, "task.num_types: 0 is not an integer >= 1"),
    (FixedDyck, {"type_probs": (0.2, 0.7)}, r"task.type_probs: \[0.2, 0.7\] sum to 0.9, not to 1"),
    (FixedDyck, {"num_types": 3}, "2 probabilities for task.num_types = 3"),
    (FixedDyck, {"type_probs": (0.0, 1.0)}, r"task.type_probs: 0.0 is not a number in \(0, 1\]"),
    (Dyck, {"min_length": 4, "max_length": 4}, "no balanced string has 4 to 4 tokens"),
    (Dyck, {"min_length": 9, "max_length": 5}, "no balanced string has 9 to 5 tokens"),
    (Dyck, {"noise": 1.0}, r"task.noise: 1.0 is not a number in \[0, 1\)"),
    (Dyck, {"mixture": {"drawn": 0.5}}, "sum to 0.5, not to 1"),
    (Dyck, {"mixture": {"deep": 1.0}}, "no class 'deep'; valid are drawn, cap, given"),
    (Dyck, {"reward_depth": 1}, "task.reward_depth: 1 is not true or false"),
    (FixedDyck, {"prefix_lengths": (0, 32)}, "valid: 0 <= fewest <= most <= 31"),
    (FixedDyck, {"prefix_lengths": (4, 2)}, r"task.prefix_lengths: \[4, 2\]; valid"),
    (FixedDyck, {"prefix_lengths": "x"}, "is not .fewest, most."),
    (FixedDyck, {"length": 8, "mixture": {"cap": 1.0}}, "12 open brackets .* cannot be closed within 8"),
    (FixedDyck, {"prefix": "("}, "task.prefix: is used by class given alone"),
]
GIVEN = [
    ("( ]", "'( ]': ] at position 2 does not close the open ("),
    (") (", ") at position 1 closes what is not open"),
    ("( x", "'x' is no token; valid are ( [ ) ] ^"),
    ("( ^", "^ at position 2 is no bracket"),
    ("( ( ( (", "is 4 deep, deeper than task.max_depth = 3"),
    ("( ) ( ) ( ) ( )", "has 8 brackets; need <= 7"),
    ("( ) ( ) ( ( (", "leaves 3 brackets open after 7 of at most 8"),
]


@pytest.mark.parametrize(("kind", "fields", "message"), BAD)
def test_bad_values_get_a_line(kind: type[BracketTask], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        kind(**fields)
    assert str(raised.value).startswith("task.")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("prefix", "message"), GIVEN)
def test_a_prefix_that_cannot_be_completed_gets_a_line(prefix: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^task\.prefix: ") as raised:
        FixedDyck(length=8, max_depth=3, mixture={"given": 1.0}, prefix=prefix)
    assert message in str(raised.value)


def test_a_prefix_that_no_accepted_string_begins_with_gets_a_line() -> None:
    """Strings of two and of four brackets, given four of which two are open."""
    with pytest.raises(ValueError, match="leaves 2 brackets open after 4 of at most 4"):
        Dyck(max_depth=2, max_length=5, mixture={"given": 1.0}, prefix="()((")
