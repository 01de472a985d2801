"""Reading what other programs write about language models: log-probabilities and counts by checkpoint.

Each reader is one module with a `READER`; `covlab.readers.registry` lists them and the entry points of other
packages. docs/real_models.md is the guide.
"""
