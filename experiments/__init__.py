"""Tests of published claims, one folder per claim, and the commands, one file per command."""
