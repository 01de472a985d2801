from __future__ import annotations

import io

import pytest

from tracking.progress import Progress, duration


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_over_shows_the_items_that_are_done_and_yields_them_in_order() -> None:
    stream = io.StringIO()
    progress = Progress(interval=0, stream=stream, clock=Clock())
    assert list(progress.over("laws", (4, 8), lambda h: {"H": h})) == [4, 8]
    assert stream.getvalue().splitlines() == [
        "laws 0/2 (0.0%)  H 4",
        "laws 1/2 (50.0%)  H 8",
        "laws 2/2 (100.0%)",
    ]


def test_plain_lines_at_most_every_interval_with_rate_and_time_left() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(interval=30, stream=stream, clock=clock)
    # A resumed run: the first 4,000 steps were done by another process and are no speed of this one.
    for step in range(4000, 4101):
        progress.update("finetune", step, 4100, {"eval/kl": 0.70123456})
        clock.now += 1.0
    lines = stream.getvalue().splitlines()
    assert lines[0] == "finetune 4000/4100 (97.6%)  eval/kl 0.7012"
    assert lines[1] == "finetune 4030/4100 (98.3%)  1 steps/s  elapsed 0:00:30  left 0:01:10  eval/kl 0.7012"
    assert [line.split()[1] for line in lines] == [
        "4000/4100",
        "4030/4100",
        "4060/4100",
        "4090/4100",
        "4100/4100",
    ]
    progress.update("finetune", 4100, 4100)
    assert len(stream.getvalue().splitlines()) == 5


def test_the_rate_is_recent_and_phases_are_apart() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(interval=10, stream=stream, clock=clock)
    progress.update("pretrain", 0, 1000)
    clock.now += 10
    progress.update("pretrain", 100, 1000)
    clock.now += 10
    progress.update("pretrain", 120, 1000)
    progress.update("finetune", 0, 50)
    lines = stream.getvalue().splitlines()
    assert "10 steps/s" in lines[1]
    assert "left 0:01:30" in lines[1]
    assert "2 steps/s  elapsed 0:00:20  left 0:07:20" in lines[2]
    assert lines[3] == "finetune 0/50 (0.0%)"


def test_the_time_of_compiling_counts_for_no_rate() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(interval=0, stream=stream, clock=clock)
    progress.waiting("train", 0, 100, "compiling ...")
    assert stream.getvalue() == "train 0/100  compiling ...\n"
    clock.now += 500
    progress.update("train", 0, 100)
    clock.now += 10
    progress.update("train", 20, 100)
    assert (
        stream.getvalue().splitlines()[2] == "train 20/100 (20.0%)  2 steps/s  elapsed 0:00:10  left 0:00:40"
    )


def test_not_shown_still_gives_messages() -> None:
    stream = io.StringIO()
    progress = Progress(show=False, stream=stream)
    progress.update("p", 1, 2)
    progress.message("seed 3 is frozen at step 40 [loss nan]")
    progress.close()
    assert stream.getvalue() == "seed 3 is frozen at step 40 [loss nan]\n"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_stream_that_is_gone_does_not_stop_the_run(stream) -> None:
    progress = Progress(stream=stream, interval=0)
    progress.update("p", 0, 2)
    stream.close()
    for step in (1, 2):
        progress.update("p", step, 2)
        progress.message("text")
    progress.close()


def test_a_terminal_gets_a_bar_that_messages_do_not_break(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    stream = Terminal()
    progress = Progress(stream=stream)
    progress.waiting("fine[tune]", 10, 40, "compiling ...")
    assert "compiling ..." in stream.getvalue()
    progress.update("fine[tune]", 10, 40, {"kl": 0.5})
    progress.update("fine[tune]", 20, 40, {"kl": 0.25})
    progress.message("a line [with brackets]")
    progress.update("fine[tune]", 40, 40, {"kl": 0.125})
    progress.close()
    progress.close()
    progress.update("fine[tune]", 40, 40)
    text = stream.getvalue()
    assert "a line [with brackets]\n" in text
    last = text[text.rindex("fine[tune]") :]
    assert "40/40" in last
    assert "compiling" not in last
    assert "kl 0.125" in last


def test_bad_interval_and_durations() -> None:
    with pytest.raises(ValueError, match="interval: -1 is not a number >= 0"):
        Progress(interval=-1)
    assert [duration(s) for s in (0, 61.9, 36000)] == ["0:00:00", "0:01:01", "10:00:00"]
