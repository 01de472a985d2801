"""Sweeps: many runs from one command line, on one machine or a Slurm cluster."""
