"""The workspace as the library would send it, read back from its own serialisation; no server."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from experiments import dashboard
from tracking.metrics_file import encode_record
from tracking.run_config import dump_config

pytest.importorskip("wandb_workspaces")
# The library declares validators in a form that pydantic deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")
NS = (16, 2, 5.7)


def write_run(
    path: Path, rate: float = 0.001, seeds: int = 2, ids: Mapping[str, str] | None = None, **mirror: Any
) -> Path:
    """A run that was mirrored: Cov_N is N / 100 at its second step."""
    path.mkdir(parents=True)
    config = {"optimizer": {"learning_rate": rate}, "evaluation": {"num_examples": int(rate * 1e4)}}
    (path / "config.yaml").write_bytes(dump_config(config | {"seed": 0, "name": path.name}))
    lines = [
        {"phase": "train", "step": step, "global_step": step, "seed": seed}
        | {f"eval/{part}cov/{n}": (1 if step == 0 else n / 100) for part in ("", "G1/") for n in NS}
        | {"eval/kl": rate + seed, "train/gradient_norm": 1.0}
        for step in (0, 10)
        for seed in range(seeds)
    ]
    (path / "metrics.jsonl").write_bytes(b"".join(map(encode_record, lines)))
    stored = {"project": "lab", "entity": "us", "ids": ids or {"all": f"id_{path.name}"}} | mirror
    (path / "wandb.json").write_text(json.dumps(stored))
    return path


def sections_of(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Title -> panels, after the library has read the file back and written it again unchanged."""
    from wandb_workspaces.workspaces.internal import WorkspaceViewspec

    spec = json.loads(file.read_text())["spec"]
    again = WorkspaceViewspec.model_validate(spec).model_dump_json(by_alias=True, exclude_none=True)
    assert json.loads(again) == spec
    config = spec["section"]["panelBankConfig"]
    return {section["name"]: section["panels"] for section in config["sections"]}


def test_one_run_has_the_n_as_lines_and_the_quantiles(call: Callable[..., Any], tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    ended = call(dashboard.main, "runs/a")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines()[0] == "runs/dashboard/workspace.json"
    sections = sections_of(tmp_path / "runs" / "dashboard" / "workspace.json")
    assert list(sections) == ["KL (nats), lower is better", "Coverage profile Cov_N, lower is better"]
    mixture, by_class = (panel["config"] for panel in sections["Coverage profile Cov_N, lower is better"])
    assert (mixture["chartTitle"], by_class["chartTitle"]) == (
        "eval/cov, lower is better", "eval/G1/cov, lower is better",
    )  # fmt: skip
    assert mixture["xAxis"] == "global_step"
    assert mixture["metrics"][:3] == ["eval/cov/2/median", "eval/cov/5p7/median", "eval/cov/16/median"]
    assert set(mixture["metrics"][3:]) == {f"eval/cov/{n}/q{q}" for n in (2, "5p7", 16) for q in (10, 90)}
    titles = mixture["overrideSeriesTitles"]
    assert [titles[f"id_a:eval/cov/{n}/median"] for n in (2, "5p7", 16)] == ["Cov_2", "Cov_5.7", "Cov_16"]
    assert titles["id_a:eval/cov/16/q90"] == "Cov_16, 90 % quantile"
    marks, colours = mixture["overrideMarks"], mixture["overrideColors"]
    assert (marks["id_a:eval/cov/2/median"], marks["id_a:eval/cov/2/q10"]) == ("solid", "dotted")
    assert colours["id_a:eval/cov/2/q10"] == colours["id_a:eval/cov/2/median"]
    assert len({colour["color"] for colour in colours.values()}) == 3


def test_a_sweep_has_a_table_of_what_it_varied(call: Callable[..., Any], tmp_path: Path) -> None:
    for rate in (0.1, 0.01, 1e-5):
        write_run(tmp_path / "runs" / f"rate{rate}", rate)
    ended = call(dashboard.main, "runs/rate*", "metric=eval/cov/*", "title=rates")
    assert (ended.status, ended.err) == (0, "")
    file = tmp_path / "runs" / "dashboard" / "workspace.json"
    content = json.loads(file.read_text())
    assert (content["name"], content["project"], content["entity"]) == ("rates", "lab", "us")
    sections = sections_of(file)
    table, coordinates = (panel["config"] for panel in sections["Sweep"])
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table["value"].splitlines()[2:]]
    assert rows[0][:3] == ["learning_rate", "seeds", "best eval/kl, lower is better"]
    assert [row[:3] for row in rows[2:]] == [
        ["1e-05", "2", "0.5"], ["0.01", "2", "0.51"], ["0.1", "2", "0.6"],
    ]  # fmt: skip
    assert "num_examples" not in file.read_text()
    assert [column["accessor"] for column in coordinates["columns"]] == [
        "config:optimizer.value.learning_rate",
        "summary:eval/kl/median.min",
        "summary:eval/cov/5p7/median.min",
    ]  # fmt: skip
    lines, *by_n = (panel["config"] for panel in sections["Coverage profile Cov_N, lower is better"])
    assert lines["overrideSeriesTitles"]["id_rate0.1:eval/cov/16/median"] == "learning_rate=0.1: Cov_16"
    assert [panel["chartTitle"] for panel in by_n] == [
        f"Cov_{n}, eval/cov, lower is better" for n in (2, 5.7, 16)
    ]
    (runs,) = content["spec"]["section"]["runSets"]
    assert runs["filters"]["filters"][0]["value"] == ["id_rate1e-05", "id_rate0.01", "id_rate0.1"]
    assert runs["runFeed"]["columnOrder"][:2] == ["run:displayName", "config:optimizer.value.learning_rate"]


def test_runs_of_single_seeds_are_grouped(call: Callable[..., Any], tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", ids={"0": "one", "1": "two"})
    assert call(dashboard.main, "runs/a", "metric=eval/cov/*").status == 0
    sections = sections_of(tmp_path / "runs" / "dashboard" / "workspace.json")
    (panel,) = (panel["config"] for panel in sections["Coverage profile Cov_N, lower is better"])
    assert panel["metrics"] == ["eval/cov/2", "eval/cov/5p7", "eval/cov/16"]
    assert [panel[key] for key in ("groupBy", "groupAgg", "groupArea", "aggregate")] == [
        "group", "median", "minmax", True,
    ]  # fmt: skip


def test_with_a_key_it_is_sent(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb
    from wandb_workspaces.workspaces import internal

    sent: list[Mapping[str, Any]] = []

    def take(api: Any, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        sent.append(variables)
        return {"upsertView": {"view": {"id": "1", "name": variables["name"]}, "inserted": True}}

    api = types.SimpleNamespace(
        default_entity="me", client=types.SimpleNamespace(app_url="https://example.invalid")
    )
    monkeypatch.setattr(wandb, "Api", lambda: api)
    monkeypatch.setattr(internal, "execute_graphql", take)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    write_run(tmp_path / "runs" / "a", entity=None)
    ended = call(dashboard.main, "runs/a", "tracking.wandb=auto")
    assert ended.status == 0
    assert ended.out.splitlines()[-1].startswith("https://example.invalid/me/lab?nw=")
    ((variables),) = sent
    assert (variables["entityName"], variables["projectName"]) == ("me", "lab")
    stored = json.loads((tmp_path / "runs" / "dashboard" / "workspace.json").read_text())
    assert json.loads(variables["spec"]) == stored["spec"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "runs: none; valid: run directories, folders of them or patterns"),
        (["runs/plain"], "W&B has no such run; python -m tracking.wandb_mirror"),
        (["runs/a", "runs/b"], "tracking.project: the runs are in lab, other; a workspace shows one project"),
        (["runs/a", "metric=eval/lk"], "metric: 'eval/lk' is in no run"),
        (["runs/a", "title='lr=1'"], "title: 'lr=1'; valid: a text without emoji and signs such as ="),
        (["runs/a", "tracking.wandb=yes"], "tracking.wandb: 'yes' is not one of auto, online"),
        (["runs/a", "x=time"], "x: 'time'; valid: global_step or step"),
        (["runs/a", "out=runs/a"], "out: runs/a: holds a run"),
        (["runs/a", "tilte=x"], "tilte: no such key; valid are"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, call: Callable[..., Any], tmp_path: Path
) -> None:
    write_run(tmp_path / "runs" / "a")
    write_run(tmp_path / "runs" / "b", project="other")
    (write_run(tmp_path / "runs" / "plain") / "wandb.json").unlink()
    ended = call(dashboard.main, *arguments)
    assert ended.status == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1


def test_a_missing_library_is_one_line(
    call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "runs" / "a")
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    ended = call(dashboard.main, "runs/a")
    assert (ended.status, ended.err) == (
        2, "error: dashboard: wandb-workspaces is not installed: pip install 'covlab[dashboard]'\n",
    )  # fmt: skip
