"""Figures and tables of experiments.sgd_coordinates: those of experiments.sgd_horizon."""

from experiments.sgd_horizon.figures import drawings, tables

__all__ = ["drawings", "tables"]
