"""Output of a run: writing, mirroring to W&B, and reading back.

Import `tracking.wandb_mirror` by module name, because it is also a command:
`python -m tracking.wandb_mirror RUN_DIRECTORY`.
"""

from tracking.load import LoadError, load_log_probs, load_run, load_runs
from tracking.metrics_file import MetricsFile, MetricsFileError, read_records
from tracking.progress import Progress
from tracking.run_config import RunDirectoryError, read_config
from tracking.run_directory import RunDirectory, RunStatus, read_status
from tracking.sink import ListSink, RunSink

__all__ = [
    "ListSink",
    "LoadError",
    "MetricsFile",
    "MetricsFileError",
    "Progress",
    "RunDirectory",
    "RunDirectoryError",
    "RunSink",
    "RunStatus",
    "load_log_probs",
    "load_run",
    "load_runs",
    "read_config",
    "read_records",
    "read_status",
]
