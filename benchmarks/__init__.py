"""Measurements of speed and memory: each `python -m benchmarks.<name>` prints ratios that were measured in
one run.

Everything that is compared is timed in turn, round after round, in processes of its own, so that a slow
moment of the machine meets all of them; a ratio is the median over rounds. `python -m benchmarks` runs them
all.
"""
