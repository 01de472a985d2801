"""Hydra configuration groups, as package data."""
