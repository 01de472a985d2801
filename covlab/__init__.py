"""The laboratory's machinery: how a command line becomes a run, a verdict and a page."""
