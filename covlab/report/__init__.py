"""Verdicts, figures, tables and pages of a claim."""
