from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tracking import LoadError, RunDirectory, load_log_probs
from tracking.array_log import ARRAYS, ArrayLog, ArrayLogError, entries, read_entry


def arrays(value: int) -> dict[str, np.ndarray]:
    return {
        "log_prob": np.full((2, 3, 2), -value, np.float32),
        "greedy": np.array([[True, False, True]] * 2),
    }


def filled(path: Path, steps=(0, 10, 20)) -> Path:
    log = ArrayLog(path)
    for step in steps:
        assert log.append(f"p_{step}", arrays(step))
    log.flush()
    log.close()
    return path


def test_numpy_alone_reads_it(tmp_path: Path) -> None:
    found = {}
    with filled(tmp_path / "a.npy").open("rb") as file:
        while file.tell() < os.fstat(file.fileno()).st_size:
            header = json.loads(np.load(file).item())
            found[header["name"]] = {key: np.load(file) for key in header["keys"]}
    assert list(found) == ["p_0", "p_10", "p_20"]
    for step, own in zip((0, 10, 20), found.values(), strict=True):
        assert sorted(own) == ["greedy", "log_prob"]
        for key, array in arrays(step).items():
            np.testing.assert_array_equal(own[key], array)
            assert own[key].dtype == array.dtype


def test_equal_arrays_are_written_once_and_give_equal_bytes(tmp_path: Path) -> None:
    whole = filled(tmp_path / "a.npy").read_bytes()
    log = ArrayLog(tmp_path / "a.npy")
    assert not log.append("p_10", dict(reversed(arrays(10).items())))
    assert not log.append("p_20", arrays(20))
    log.settle()
    log.close()
    assert (tmp_path / "a.npy").read_bytes() == whole
    assert filled(tmp_path / "b.npy").read_bytes() == whole


@pytest.mark.long
def test_cut_anywhere_a_record_is_there_whole_or_not_at_all_and_is_written_again(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.npy")
    whole, ends = path.read_bytes(), [entry.end for entry in entries(path)]
    for size in {
        *range(0, len(whole), 7),
        *ends,
        *(end - 1 for end in ends),
        *(end + 1 for end in ends[:-1]),
    }:
        path.write_bytes(whole[:size])
        kept = sum(end <= size for end in ends)
        assert [entry.name for entry in entries(path)] == ["p_0", "p_10", "p_20"][:kept]
        assert path.stat().st_size == size
        log = ArrayLog(path)
        assert path.stat().st_size == ([0, *ends])[kept]
        for step in (0, 10, 20):
            log.append(f"p_{step}", arrays(step))
        log.close()
        assert path.read_bytes() == whole


def test_zeros_that_a_loss_of_power_left_are_cut_off(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.npy")
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(100))
    ArrayLog(path).close()
    assert path.read_bytes() == whole
    # Within a record that the file has room for, only the contents tell.
    path.write_bytes(whole[:-20] + bytes(20))
    log = ArrayLog(path)
    assert log.append("p_20", arrays(20))
    log.settle()
    log.close()
    assert path.read_bytes() == whole


def test_the_last_record_of_a_name_counts(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path / "run", {}) as run:
        for step in (0, 10, 20):
            run.write_arrays(f"p_{step}", arrays(step))
    with RunDirectory.open(tmp_path / "run", {}) as run:
        run.write_arrays("p_10", arrays(11))
        run.write_arrays("p_20", arrays(21))
        found = load_log_probs(tmp_path / "run")
        assert [found[f"p_{step}"]["log_prob"][0, 0, 0] for step in (0, 10, 20)] == [0, -11, -21]
        run.mark("complete")
        run.write_arrays("p_30", arrays(30))
    filled(tmp_path / "b.npy", (0,))
    log = ArrayLog(tmp_path / "b.npy")
    for step in (10, 20):
        log.append(f"p_{step}", arrays(step + 1))
    log.append("p_30", arrays(30))
    log.close()
    assert (tmp_path / "run" / ARRAYS).read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_what_is_no_record_is_refused_in_one_line_and_left_alone(tmp_path: Path) -> None:
    path = filled(tmp_path / "a.npy")
    whole, second = path.read_bytes(), entries(path)[1]
    path.write_bytes(whole[: second.begin] + b"x" + whole[second.begin + 1 :])
    damaged = path.read_bytes()
    with pytest.raises(ArrayLogError, match=rf"a\.npy: no record at byte {second.begin} of {len(whole)}: "):
        ArrayLog(path)
    assert path.read_bytes() == damaged
    flipped = bytearray(whole)
    flipped[second.end - 1] ^= 1
    path.write_bytes(bytes(flipped))
    with pytest.raises(ArrayLogError, match="the arrays of p_10 differ from what was written: damaged"):
        read_entry(path, entries(path)[1])
    with RunDirectory.open(tmp_path / "run", {}):
        pass
    (tmp_path / "run" / ARRAYS).write_bytes(bytes(flipped))
    with pytest.raises(LoadError, match="p_10 differ"):
        load_log_probs(tmp_path / "run")
    assert list(load_log_probs(tmp_path / "run", "p_20")) == ["p_20"]


def test_a_full_disk_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path / "a.npy")
    whole, real, calls = path.read_bytes(), os.write, []

    def full(file: int, data: bytes) -> int:
        calls.append(file)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(file, data[:50])

    log = ArrayLog(path)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space left"):
        log.append("p_30", arrays(30))
    monkeypatch.undo()
    assert path.read_bytes() == whole
    log.append("p_30", arrays(30))
    log.close()
    assert [entry.name for entry in entries(path)] == ["p_0", "p_10", "p_20", "p_30"]
    with pytest.raises(ValueError, match="Object arrays"):
        ArrayLog(path).append("objects", {"x": np.array([None])})


@pytest.mark.long
def test_a_killed_writer_leaves_whole_records(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np\nfrom tracking.array_log import ArrayLog\n"
        "log = ArrayLog(sys.argv[1])\n"
        "for step in range(100000):\n    log.append(f'p_{step}', {'x': np.full(1000, step)})\n"
        "    print(step, flush=True)\n"
    )
    root = Path(__file__).resolve().parents[2]
    for line in (3, 7, 20):
        path = tmp_path / f"{line}.npy"
        with subprocess.Popen(
            [sys.executable, "-c", program, path], stdout=subprocess.PIPE, cwd=root
        ) as child:
            for _ in range(line):
                child.stdout.readline()
            child.kill()
        found = entries(path)
        assert len(found) >= line
        for step, entry in enumerate(found):
            assert read_entry(path, entry)["x"].tolist() == [step] * 1000


def test_files_of_earlier_versions_are_read_and_continued(tmp_path: Path) -> None:
    with RunDirectory.open(tmp_path, {}) as run:
        for step in (5, 10):
            np.savez(run.log_probs / f"p_{step:08d}.npz", log_prob=np.full(2, -step))
        run.write_arrays("p_00000010", {"log_prob": np.zeros(2)})
        run.write_arrays("p_00000015", {"log_prob": np.ones(2)})
    loaded = load_log_probs(tmp_path, "p_[0-9]*")
    assert [(name, own["log_prob"][0]) for name, own in loaded.items()] == [
        *(("p_00000005", -5), ("p_00000010", 0), ("p_00000015", 1))
    ]
