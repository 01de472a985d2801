"""Path-star graphs against the text of the prompts."""

from typing import Any

import numpy as np
import pytest
from oracles.small import path_star as oracle

from covlab.testing.drawing import draw, judge, listed, take
from covlab.testing.statistics import chi_square_p
from tasks import PathStar

OPTIONS = [
    {"arms": 2, "path_length": 5, "num_ids": 50},
    {"arms": 5, "path_length": 4, "num_ids": 16, "separators": False},
    {"arms": 3, "path_length": 2, "num_ids": 9, "reversed": True},
    {"arms": 2, "path_length": 4, "num_ids": 7, "reversed": True},
]
every_option = pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda options: "-".join(map(str, options.values()))
)
DRAWS = 3000
GOLDEN = ("1 3 | 8 5 | 3 4 | 1 8 / 1 4 =", [1, 3, 4])


def texts(task: PathStar, count: int) -> list[tuple[str, list[int]]]:
    examples = draw(task, DRAWS)
    return [(task.decode(examples.prompt[i]), examples.response[i].tolist()) for i in range(count)]


@pytest.mark.long
@every_option
def test_prompts_are_path_stars_and_responses_their_arms(options: dict[str, Any]) -> None:
    task = PathStar(**options)
    examples = draw(task, DRAWS)
    responses, mask = listed(task, examples.latent)
    assert mask.all()
    for i, (prompt, response) in enumerate(texts(task, 60)):
        body, _ = prompt.split(" / ")
        edges = body.split(" | ") if task.separators else [" ".join(p) for p in pairs(body)]
        assert len(edges) == len(set(edges)) == task.arms * (task.path_length - 1)
        found = oracle.arms(prompt)
        assert len(found) == task.arms
        assert {len(arm) for arm in found} == {task.path_length}
        nodes = [node for arm in found for node in arm[1:]]
        assert len({found[0][0], *nodes}) == 1 + len(nodes), "a node in two places"
        assert response == oracle.answer(prompt, task.reversed)
        direction = -1 if task.reversed else 1
        assert sorted(responses[i].tolist()) == sorted(arm[::direction] for arm in found)


def pairs(body: str) -> list[list[str]]:
    words = body.split(" ")
    return [words[i : i + 2] for i in range(0, len(words), 2)]


@every_option
def test_goals_orders_and_ids_are_uniform(options: dict[str, Any]) -> None:
    task = PathStar(**options)
    examples = draw(task, DRAWS)
    goal_rows = dict.fromkeys(range(task.arms), 1 / task.arms)
    assert chi_square_p(examples.latent.goal.tolist(), goal_rows) > 1e-3
    # The place of the edge that enters the goal tells nothing: it is anywhere in the list, equally often.
    every = task.num_nodes - 1
    stride = 3 if task.separators else 2
    targets = examples.prompt[:, 1 : stride * every : stride]
    goals = examples.prompt[:, -2]
    place = np.argmax(targets == goals[:, None], axis=1)
    assert np.all(np.take_along_axis(targets, place[:, None], axis=1)[:, 0] == goals)
    assert chi_square_p(place.tolist(), dict.fromkeys(range(every), 1 / every)) > 1e-3
    ids = dict.fromkeys(range(1, task.num_ids + 1), 1 / task.num_ids)
    assert chi_square_p(goals.tolist(), ids) > 1e-3
    assert chi_square_p(examples.prompt[:, -3].tolist(), ids) > 1e-3


@every_option
def test_only_the_arm_to_the_goal_is_right_and_only_whole_arms_are_valid(options: dict[str, Any]) -> None:
    task = PathStar(**options)
    examples = take(draw(task, DRAWS), slice(50))
    responses, _ = listed(task, examples.latent)
    broken = np.where(np.arange(task.response_length) == task.response_length - 1, 1, responses[:, :1])
    other_way = examples.response[:, None, ::-1]
    log_prob, reward, validity = judge(
        task, examples.latent, np.concatenate([responses, broken, other_way], axis=1)
    )
    right = np.all(responses == examples.response[:, None], axis=2)
    assert np.array_equal(right.sum(axis=1), np.ones(50))
    np.testing.assert_array_equal(log_prob[:, : task.arms], np.where(right, 0.0, -np.inf))
    np.testing.assert_array_equal(reward[:, : task.arms] > 0, right)
    assert validity[:, : task.arms].min() == 1
    assert validity[:, task.arms + 1].max() == reward[:, task.arms + 1].max() == 0
    assert np.all(log_prob[:, task.arms + 1] == -np.inf)
    whole = np.any(np.all(broken == responses, axis=2), axis=1)
    np.testing.assert_array_equal(validity[:, task.arms] > 0, whole)


def test_sizes_and_tokens() -> None:
    task = PathStar(arms=2, path_length=5, num_ids=50)
    assert (task.num_nodes, task.vocab_size, task.response_length) == (9, 54, 5)
    assert task.prompt_length == len("1 2 | " * 7 + "1 2 / 1 2 =") // 2 + 1
    assert task.response_tokens == tuple(range(1, 51))
    assert task.end_token is None
    assert task.encode("3 7 | 7 50 / 3 50 =") == [3, 7, 51, 7, 50, 52, 3, 50, 53]
    with pytest.raises(ValueError, match=r"text: '51' is neither an id in 1\.\.50"):
        task.encode("51")


def test_a_graph_stays_the_same() -> None:
    """Golden: another text means that every recorded result is of other graphs."""
    prompt, response = texts(PathStar(arms=2, path_length=3, num_ids=9), 1)[0]
    assert (prompt, response) == GOLDEN


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arms": 1}, "task.arms: 1 is not an integer >= 2"),
        ({"path_length": 1}, "task.path_length: 1 is not an integer >= 2"),
        ({"path_length": 2.5}, "task.path_length: 2.5 is not an integer >= 2"),
        ({"num_ids": True}, "task.num_ids: True is not an integer >= 1"),
        ({"num_ids": 8}, "task.num_ids: 8 ids are too few for 9 nodes (1 + arms x (path_length - 1))"),
        ({"reversed": "yes"}, "task.reversed: 'yes' is not true or false"),
        ({"separators": 1}, "task.separators: 1 is not true or false"),
    ],
)
def test_bad_values_are_refused_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="task") as caught:
        PathStar(**options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
