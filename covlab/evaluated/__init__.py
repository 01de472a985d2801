"""What evaluations of several checkpoints say: the choice by log-probabilities, by counts, and what predicts.

`covlab.readers` reads the evaluations; `experiments.select` prints these sections.
"""
