"""Small graphs of Figure 2's classes; `uniform`, with four branching layers, is in the task's own tests."""

from oracles.small.layered_graph import layered

INSTANCES = (
    layered(depth=2, width=2, num_ids=6, mixture={"chain": 0.6, "xor": 0.4}),
    layered(
        depth=2, width=2, num_ids=7, mixture={"chain": 0.5, "xor": 0.5}, separators=False, max_enumerated=0
    ),
    layered(depth=2, width=2, num_ids=6, subset_seed=2, mixture={"chain": 0.6, "parities": 0.4}),
)
