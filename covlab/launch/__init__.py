"""The way from a command line to a run on disk."""

import gc

# Importing and tracing make many objects that live long: at Python's own threshold of 700, collections that
# free nothing follow each other, which is a fifth of the time of all imports.
gc.set_threshold(50_000, 20, 100)
