"""One-pass SGD on instances whose law of the iterates is known."""
