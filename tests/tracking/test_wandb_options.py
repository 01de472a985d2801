from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from tracking.wandb_options import WandbOptions, has_credentials, resolve_mode


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
    with pytest.raises(ValueError, match=r"is (one of|'on': one of|0: a positive|nan: a positive)"):
        WandbOptions(**options)
