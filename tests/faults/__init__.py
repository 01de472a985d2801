"""Faults that a run survives: kills, full and read-only disks, damaged files, rivals, W&B gone."""
