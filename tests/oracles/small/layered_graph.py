"""Small layered graphs, answered by the oracle that parses the prompt."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from covlab.testing import Small
from oracles import layered_graph
from tasks import LayeredGraph


def exact(task: LayeredGraph) -> dict[str, Fraction]:
    """The mixture as fractions: 1/3 is meant where the float next to it is stored."""
    return {name: Fraction(p).limit_denominator(1000) for name, p in task.mixture}


def layered(**options: Any) -> Small:
    task = LayeredGraph(**options)
    mixture = exact(task)

    def probability(prompt: str, response: Sequence[int]) -> Fraction:
        graph = layered_graph.parse(prompt, task.separators)
        value = layered_graph.bit(graph, task.subset, task.subset_seed, task.num_ids)
        hidden = (task.subset_seed, task.num_ids)
        return layered_graph.pi_data(graph, value, mixture, response, task.branching, *hidden)

    def reward(prompt: str, group: str, response: Sequence[int]) -> bool:
        graph = layered_graph.parse(prompt, task.separators)
        return layered_graph.class_prob(graph, group, response, task.subset_seed, task.num_ids) > 0

    return Small(task, probability, reward)


THIRDS = {"G1": 1 / 3, "G2": 1 / 3, "G3": 1 / 3}

INSTANCES = (
    layered(depth=1, width=2, branching=1, num_ids=6),
    layered(
        depth=2,
        width=2,
        branching=1,
        num_ids=7,
        mixture=THIRDS,
        edge_order="by_layer",
        separators=False,
        subset="label",
    ),
    layered(
        depth=2,
        width=2,
        branching=1,
        num_ids=6,
        mixture={"forks": 0.75, "first_fork": 0.25},
        fill=2,
    ),
)
