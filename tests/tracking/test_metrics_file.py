from __future__ import annotations

import json
import math
import os
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.metrics_file import MetricsFile, MetricsFileError, decode_line, encode_record, read_records

RECORDS = [
    {"phase": "finetune", "step": s, "global_step": 100 + s, "seed": k, "eval/cov/5.7": s / 7}
    for s in (0, 10, 20)
    for k in (0, 1)
]


def strict(line: bytes) -> dict:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(line, parse_constant=refuse)


def bits(value: float) -> bytes:
    return b"nan" if math.isnan(value) else struct.pack("<d", value)


@given(st.floats())
def test_every_float_reads_back_with_the_same_bits_from_strict_json(value: float) -> None:
    line = encode_record({"x": value})
    strict(line)
    assert bits(decode_line(line)["x"]) == bits(value)


def test_non_finite_values_are_told_apart() -> None:
    line = encode_record({"a": math.nan, "b": math.inf, "c": -math.inf, "d": None})
    assert strict(line) == {"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": None}
    record = decode_line(line)
    assert math.isnan(record["a"])
    assert record["b"] == math.inf
    assert record["c"] == -math.inf
    assert record["d"] is None


def test_equal_records_are_equal_bytes_with_the_step_first() -> None:
    line = encode_record({"seed": 3, "b": 1.0, "step": 2, "a": True, "phase": "p", "global_step": 5})
    assert line == b'{"phase":"p","step":2,"global_step":5,"seed":3,"a":true,"b":1.0}\n'
    assert line == encode_record({"a": True, "b": 1.0, "global_step": 5, "phase": "p", "seed": 3, "step": 2})


def test_numpy_scalars_are_written_as_their_exact_value() -> None:
    line = encode_record({"a": np.float32(0.1), "b": np.int64(7), "c": np.bool_(True), "d": np.array(2.5)})
    assert decode_line(line) == {"a": float(np.float32(0.1)), "b": 7, "c": True, "d": 2.5}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"eval/kl": [1.0]}, "metric 'eval/kl' is a list: a float, int, str, bool or None is valid"),
        ({"eval/kl": np.zeros(3)}, "metric 'eval/kl' is a ndarray"),
        ({"note": "NaN"}, "reserved for a float"),
        ({"": 1.0}, "metric name '' is not valid"),
    ],
)
def test_a_record_that_is_not_flat_is_refused_and_nothing_is_written(tmp_path, record, message) -> None:
    with MetricsFile(tmp_path / "m.jsonl") as file:
        with pytest.raises(ValueError, match=message.replace("(", r"\(")):
            file.append([RECORDS[0], record])
        assert file.path.read_bytes() == b""


def test_append_then_read(tmp_path) -> None:
    with MetricsFile(tmp_path / "m.jsonl") as file:
        file.append(RECORDS[:2])
        file.append([])
        file.append(RECORDS[2:])
        assert file.records() == RECORDS
    with MetricsFile(tmp_path / "m.jsonl") as file:
        file.append(RECORDS[:1])
    assert read_records(tmp_path / "m.jsonl") == [*RECORDS, RECORDS[0]]


@pytest.mark.long
def test_a_kill_at_any_byte_loses_at_most_the_line_being_written(tmp_path) -> None:
    whole = b"".join(encode_record(record) for record in RECORDS[:3])
    path = tmp_path / "m.jsonl"
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        complete = whole[:size].count(b"\n")
        assert read_records(path) == RECORDS[:complete]
        with MetricsFile(path) as file:
            assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:complete])
            file.append(RECORDS[complete:3])
        assert path.read_bytes() == whole


@pytest.mark.parametrize("tail", [b'{"step": 1\n', b"\x00\x00\x00", b"\x00\x00\n", b"[1]\n", b"\xff\r\xff\n"])
def test_a_last_line_that_is_no_object_is_dropped(tmp_path, tail) -> None:
    path = tmp_path / "m.jsonl"
    whole = encode_record(RECORDS[0])
    path.write_bytes(whole + tail)
    assert read_records(path) == RECORDS[:1]
    MetricsFile(path).close()
    assert path.read_bytes() == whole


def test_a_corrupt_line_in_the_middle_is_named_and_nothing_is_lost(tmp_path) -> None:
    path = tmp_path / "m.jsonl"
    data = encode_record(RECORDS[0]) + b'{"step": \n' + encode_record(RECORDS[1]) + b"torn"
    path.write_bytes(data)
    for read in (read_records, MetricsFile):
        with pytest.raises(MetricsFileError, match=r"m\.jsonl, line 2 of 3: not a JSON object") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == data


def test_after_a_rewind_lines_that_repeat_stay_as_they_are(tmp_path) -> None:
    path = tmp_path / "m.jsonl"
    # A foreign writer's spacing must survive: kept lines are bytes, not re-encoded records.
    foreign = b'{ "global_step": 1 }\n'
    path.write_bytes(foreign + b"".join(map(encode_record, RECORDS)) + b"torn")
    whole = path.read_bytes().removesuffix(b"torn")
    with MetricsFile(path) as file:
        assert file.num_lines == 7
        assert file.rewind(2) == 5
        assert (file.num_lines, path.read_bytes()) == (2, whole)
        assert len(file.records()) == 2
        for start, stop in ((1, 3), (3, 4)):
            assert file.append(RECORDS[start:stop]) == 0
            assert (file.num_lines, path.read_bytes()) == (1 + stop, whole)
        with pytest.raises(MetricsFileError, match="7 lines, but the checkpoint was saved after 8"):
            file.rewind(8)
    # Killed here, in the middle of what it did again: nothing is gone.
    with MetricsFile(path) as file:
        assert (file.num_lines, path.read_bytes()) == (7, whole)
        assert file.rewind(2) == 5
        assert file.append([*RECORDS[1:], RECORDS[0]]) == 0
        assert file.records() == [{"global_step": 1}, *RECORDS, RECORDS[0]]
        assert path.read_bytes() == whole + encode_record(RECORDS[0])


def test_after_a_rewind_lines_that_differ_are_replaced_from_there(tmp_path) -> None:
    with MetricsFile(tmp_path / "m.jsonl") as file:
        file.append(RECORDS)
        assert file.rewind(1) == 5
        other = {**RECORDS[2], "eval/cov/5.7": 9.0}
        assert file.append([RECORDS[1], other]) == 4
        assert file.path.read_bytes() == b"".join(map(encode_record, [*RECORDS[:2], other]))
        assert file.append(RECORDS[3:4]) == 0
        assert file.records() == [*RECORDS[:2], other, RECORDS[3]]


def test_what_is_never_reached_again_goes_when_the_file_is_settled(tmp_path) -> None:
    with MetricsFile(tmp_path / "m.jsonl") as file:
        file.append(RECORDS)
        assert file.settle() == 0
        file.rewind(2)
        file.append(RECORDS[2:4])
        assert file.path.read_bytes() == b"".join(map(encode_record, RECORDS))
        assert file.settle() == 2
        assert file.path.read_bytes() == b"".join(map(encode_record, RECORDS[:4]))
        file.append(RECORDS[4:])
        assert file.records() == RECORDS


def test_a_replacement_that_fails_can_be_made_again(tmp_path, monkeypatch) -> None:
    with MetricsFile(tmp_path / "m.jsonl") as file:
        file.append(RECORDS)
        file.rewind(1)
        wanted = [RECORDS[1], RECORDS[0]]

        def full(*_: object) -> int:
            raise OSError("disk full")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="disk full"):
            file.append(wanted)
        monkeypatch.undo()
        assert file.num_lines == 1
        file.append(wanted)
        assert file.path.read_bytes() == b"".join(map(encode_record, [RECORDS[0], *wanted]))


def test_an_append_that_fails_half_way_leaves_no_half_line(tmp_path, monkeypatch) -> None:
    real, calls = os.write, []

    def full(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError("disk full")
        return real(descriptor, data[: len(data) // 2])

    with MetricsFile(tmp_path / "m.jsonl") as file:
        file.append(RECORDS[:2])
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="disk full"):
            file.append(RECORDS[2:])
        monkeypatch.undo()
        assert file.num_lines == 2
        file.append(RECORDS[2:])
        assert file.records() == RECORDS


def test_a_logged_step_is_one_write_and_short_writes_are_completed(tmp_path, monkeypatch) -> None:
    real, sizes = os.write, []

    def write(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return real(descriptor, data)

    with MetricsFile(tmp_path / "m.jsonl") as file:
        monkeypatch.setattr(os, "write", write)
        file.append(RECORDS)
        assert sizes == [file.path.stat().st_size]
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
        file.append(RECORDS)
        monkeypatch.undo()
        assert file.records() == RECORDS * 2


def test_flush_reaches_the_disk(tmp_path, monkeypatch) -> None:
    synced: list[str] = []
    with MetricsFile(tmp_path / "m.jsonl") as file:
        monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
        file.flush()
        monkeypatch.undo()
    assert synced == [str(tmp_path / "m.jsonl")]
