"""Benchmarks of speed and memory: each `python -m benchmarks.<name>` prints ratios measured in one run.

Contenders are timed in turn, round after round, in separate processes, so that a slow moment of the machine
affects all of them. A ratio is the median over rounds. `python -m benchmarks` runs all benchmarks.
"""
