"""The notebooks of docs/notebooks run from start to end, and are small and free of local traces."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tracking import load_run, read_status

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
LARGEST = 300_000
"""Bytes of a notebook with its outputs."""


def read(name: str) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    return notebook


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_as_it_ran(name: str) -> None:
    notebook, text = read(name), (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert len(text) < LARGEST
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {key for cell in cells for output in cell["outputs"] for key in output.get("data", {})}
    assert "image/png" in kinds
    for cell in cells:
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"
            assert "/tmp/" not in json.dumps(output)


@pytest.fixture
def kernel_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels import the project of these tests."""
    monkeypatch.setenv("PYTHONPATH", str(FOLDER.parents[1]), prepend=os.pathsep)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name: str, tmp_path: Path, kernel_environment: None) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", 4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": str(tmp_path)}}).execute()

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    texts = [output["data"]["text/plain"] for output in outputs if "text/plain" in output.get("data", {})]
    bars = [line for text in texts for line in text.splitlines() if "steps/s" in line]
    assert bars
    assert all("━" * 24 in line for line in bars)
    assert any("image/png" in output.get("data", {}) for output in outputs)
    if name == "shortcut":
        frame = load_run(tmp_path / "runs" / "train" / "shortcut")
        ends = frame[frame["phase"] == "finetune"].groupby("step").median(numeric_only=True).dropna(how="all")
        first, last = ends.iloc[0], ends[ends["eval/kl"].notna()].iloc[-1]
        assert last["eval/kl"] < first["eval/kl"] - 0.5
        assert last["eval/cov/32"] > first["eval/cov/32"] + 0.04
        assert last["eval/pass/32"] < first["eval/pass/32"] - 0.02


STOPPED = """
import covlab

run = covlab.train(
    "task=parity", "task.length=4", "model.width=8", "model.num_layers=1", "model.num_heads=2",
    steps=10**7, log_every=100, batch_size=8, name="long",
    evaluation=dict(schedule=dict(every=10**7), num_examples=4), tracking=dict(wandb="disabled"),
)
print(run.state, run.reason)
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_interrupting_the_kernel_saves_the_run(tmp_path: Path, kernel_environment: None) -> None:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    try:
        client.execute(STOPPED)
        printed, asked = "", False
        while "stopped" not in printed:
            message = client.get_iopub_msg(timeout=600)
            content = message["content"]
            assert message["msg_type"] != "error", content
            bar = content.get("data", {}).get("text/plain", "")
            # A second interrupt would stop at once.
            if not asked and re.search(r"[1-9]\d*/10000000", bar):
                manager.interrupt_kernel()
                asked = True
            if content.get("name") == "stdout":
                printed += content["text"]
        assert printed == "stopped SIGINT\n"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert read_status(tmp_path / "runs" / "train" / "long").state == "stopped"
