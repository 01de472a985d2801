from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from tracking.wandb_options import WandbOptions, has_credentials, obeying_environment, resolve_mode


def test_auto_is_online_only_with_a_key(monkeypatch) -> None:
    home = Path(os.environ["HOME"])
    assert not has_credentials()
    assert [resolve_mode(m) for m in ("auto", "online", "offline", "disabled")] == [
        *("offline", "offline", "offline", "disabled")
    ]
    (home / ".netrc").write_text("machine git.example.invalid login me password secret\n")
    assert not has_credentials()
    (home / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert has_credentials()
    assert resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.invalid")
    assert resolve_mode("auto") == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert [resolve_mode(m) for m in ("auto", "online", "offline")] == ["online", "online", "offline"]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert [resolve_mode(m) for m in ("auto", "online")] == ["disabled", "online"]


@pytest.mark.parametrize(
    "options",
    [{"mode": "on"}, {"init_timeout": 0}, {"finish_timeout": math.nan}],
    ids=lambda o: next(iter(o)),
)
def test_bad_options(options) -> None:
    with pytest.raises(ValueError, match=r"is 'on': one of|: (0|nan) is not a positive number"):
        WandbOptions(**options)


REFUSED = [
    ({"tags": ("x" * 65,)}, "tracking.tags: "),
    ({"tags": ("",)}, "tracking.tags: "),
    ({"tags": (3,)}, "tracking.tags: "),
    ({"project": "p" * 129}, "tracking.project: "),
    ({"project": ""}, "tracking.project: "),
    *(({"project": f"a{character}b"}, "tracking.project: ") for character in "/\\#?%:"),
    ({"entity": "a/b"}, "tracking.entity: "),
    ({"name": "n" * 129}, "tracking.name: "),
    ({"name": "n" * 120, "per_seed": True}, "tracking.name: "),
    ({"group": "g" * 129}, "tracking.group: "),
    ({"run_id": "a/b"}, "tracking.run_id: "),
    ({"run_id": " a"}, "tracking.run_id: "),
    ({"notes": 3}, "tracking.notes: "),
]


@pytest.mark.parametrize(("options", "start"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_w_and_b_would_refuse_is_one_line(options, start) -> None:
    with pytest.raises(ValueError, match="W&B takes") as refused:
        WandbOptions(mode="offline", **options)
    assert str(refused.value).startswith(start)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200
    WandbOptions(mode="disabled", **options)


def test_w_and_b_itself_refuses_no_more_and_no_less() -> None:
    """W&B's validation of the checked settings, on both sides of every limit."""
    from wandb.errors import UsageError
    from wandb.sdk.wandb_settings import Settings

    own = {"project": "project", "run_id": "run_id", "tags": "run_tags"}
    for field, theirs in own.items():
        texts = ["a", "a" * 64, "a" * 65, "a" * 128, "a" * 129, "", *(f"a{c}b" for c in "/\\#?%:;,'@ .")]
        for text in texts:
            value = (text,) if field == "tags" else text
            try:
                Settings(**{theirs: value})
                accepted = True
            except (UsageError, ValueError):
                accepted = False
            try:
                WandbOptions(mode="offline", **{field: value})
                ours = True
            except ValueError:
                ours = False
            # W&B's client takes a few that its server refuses.
            assert accepted or not ours, (field, text)


def test_the_environment_fills_what_is_open(monkeypatch) -> None:
    options = WandbOptions(mode="offline", name="n", group="g")
    assert obeying_environment(options).project == "covlab"
    for name, value in {
        "PROJECT": "lab", "ENTITY": "team", "RUN_GROUP": "mine",
        "RUN_ID": "id1", "TAGS": "a,b", "NOTES": "why",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"WANDB_{name}", value)
    found = obeying_environment(options)
    assert (found.project, found.entity, found.group, found.run_id) == ("lab", "team", "mine", "id1")
    assert (found.tags, found.notes, found.name) == (("a", "b"), "why", "n")
    assert obeying_environment(WandbOptions(mode="disabled")) == WandbOptions(mode="disabled")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert obeying_environment(WandbOptions()) == WandbOptions()


@pytest.mark.parametrize(
    ("variable", "value", "options", "line"),
    [
        ("WANDB_PROJECT", "b", {"project": "a"}, "tracking.project: 'a' and WANDB_PROJECT='b' differ"),
        ("WANDB_ENTITY", "b", {"entity": "a"}, "tracking.entity: 'a' and WANDB_ENTITY='b' differ"),
        ("WANDB_TAGS", "b", {"tags": ("a",)}, r"tracking.tags: \('a',\) and WANDB_TAGS='b' differ"),
        (
            "WANDB_RUN_ID",
            "x",
            {"per_seed": True},
            "WANDB_RUN_ID: 'x' names one W&B run, but tracking.per_seed",
        ),
        ("WANDB_RUN_ID", "a/b", {}, "tracking.run_id: 'a/b'; W&B takes"),
        ("WANDB_PROJECT", "a/b", {}, "tracking.project: 'a/b'; W&B takes"),
        ("WANDB_RUN_GROUP", "g" * 129, {}, "tracking.group: "),
        ("WANDB_RESUME", "never", {}, "WANDB_RESUME: 'never'; a mirror continues"),
        ("WANDB_FORK_FROM", "a?_step=1", {}, "WANDB_FORK_FROM: a mirror continues"),
    ],
)
def test_the_environment_is_obeyed_or_refused(monkeypatch, variable, value, options, line) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"^{line}") as refused:
        obeying_environment(WandbOptions(mode="offline", **options))
    assert "\n" not in str(refused.value)
