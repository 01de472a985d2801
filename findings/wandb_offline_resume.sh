#!/usr/bin/env bash
# W&B 0.31.0: `wandb sync` renumbers the rows of an offline run that resumes, also those with an explicit step.
#
# A run is killed after step 3. Its last checkpoint was at step 2, so the process that continues it logs steps 2 and 3
# again and goes on to 5. Both processes call wandb.init(id=..., resume="allow") and run.log({...}, step=k).
#   online:                   steps 0 1 2 3 | 4 5        the rows that are there already are dropped
#   offline, then wandb sync: steps 0 1 2 3 | 4 5 6 7    what was logged at step 2 is stored as step 4, 3 as 5, 4 as
#                                                        6, 5 as 7: two rows too many, and every later row has the
#                                                        wrong step, with no warning
# A second offline run without `resume`, under the same id, is not appended but written over the first from line 0 on:
# the rows 2 3 4 5 end up in the lines of 0 1 2 3, and the rows 0 and 1 are gone. Only an offline run that begins at row
# 0 again leaves what it should.
#
# Who meets it: clusters without a network, where a preempted job is requeued and the folders are synced afterwards.
# Source: wandb.init (its `resume` and `id` say nothing of offline runs), Run.log (`step`), and `wandb sync --help` ("the
# files are synced sequentially in order of start time ... This happens for resumed runs"). Expected before it was run:
# the second folder overwrites from line 0, or the rows that are there are dropped as they are online.
#
# No account is needed: a small server on this machine answers as W&B's does and prints the rows that it is sent.
# Output seen (wandb 0.31.0, Python 3.11, Linux):
#   online
#     steps [0, 1, 2, 3, 4, 5] at line 0, logged as [0, 1, 2, 3, 4, 5]
#   resumed
#     steps [0, 1, 2, 3] at line 0, logged as [0, 1, 2, 3]
#     steps [4, 5, 6, 7] at line 4, logged as [2, 3, 4, 5]
#   same
#     steps [0, 1, 2, 3] at line 0, logged as [0, 1, 2, 3]
#     steps [2, 3, 4, 5] at line 0, logged as [2, 3, 4, 5]
# Exit status: 0 as above, 1 where the behaviour has changed.
set -euo pipefail

folder=$(mktemp -d)
trap 'kill "${server:-0}" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet wandb==0.31.0
cd "$folder"
mkdir home

cat > server.py <<'PYTHON'
"""A server that knows as much of W&B's protocol as one run needs; every chunk of history goes to `rows.jsonl`."""

import gzip
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RUNS: dict[str, dict[int, dict]] = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        return

    def answer(self, found: object) -> None:
        data = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if "file_stream" in self.path:
            name = self.path.split("/")[-2]
            chunk = (json.loads(body).get("files") or {}).get("wandb-history.jsonl")
            if chunk:
                rows = [json.loads(line) for line in chunk["content"]]
                for number, row in enumerate(rows, chunk["offset"]):
                    RUNS[name][number] = row
                with open("rows.jsonl", "a") as file:
                    told = [name, chunk["offset"], [row["_step"] for row in rows], [row["logged"] for row in rows]]
                    file.write(json.dumps(told) + "\n")
            return self.answer({})
        asked = json.loads(body)
        given = asked.get("variables") or {}
        operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])[1]
        name = given.get("name")
        project = {"id": "p", "name": "p", "entity": {"id": "e", "name": "e"}}
        if operation == "RunResumeStatus":
            rows = RUNS.get(name)
            last = json.dumps(rows[max(rows)]) if rows else "{}"
            bucket = {
                "id": "b", "name": name, "displayName": name, "summaryMetrics": last, "config": "{}", "tags": [],
                "logLineCount": 0, "eventsLineCount": 0, "historyLineCount": len(rows or ()), "eventsTail": "[]",
                "historyTail": json.dumps([last]), "wandbConfig": '{"t": 1}', "notes": None, "sweepName": None,
            }
            return self.answer({"data": {"model": project | {"bucket": bucket} if rows else None}})
        if operation == "UpsertBucket":
            RUNS.setdefault(name, {})
            bucket = {"id": "b", "name": name, "displayName": name, "config": "{}", "project": project}
            return self.answer({"data": {"upsertBucket": {"bucket": bucket, "inserted": True}}})
        if operation == "CreateRunFiles":
            url = f"http://127.0.0.1:{self.server.server_port}/file"
            files = [{"name": file, "uploadUrl": url} for file in given.get("files", [])]
            return self.answer({"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}})
        if operation == "Viewer":
            viewer = {"id": "u", "entity": "e", "username": "u", "flags": "{}", "teams": {"edges": []}}
            return self.answer({"data": {"viewer": viewer}})
        return self.answer({"data": {}})


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open("port", "w") as file:
    file.write(f"{server.server_port}\n")
server.serve_forever()
PYTHON

cat > train.py <<'PYTHON'
"""One process of a run: train.py ID MODE RESUME FIRST LAST."""

import sys

import wandb

name, mode, resume, first, last = sys.argv[1:]
with wandb.init(
    project="p", id=name, mode=mode, resume="allow" if resume == "allow" else None, dir=".",
    settings=wandb.Settings(silent=True, console="off"),
) as run:
    for step in range(int(first), int(last) + 1):
        run.log({"logged": step}, step=step)
PYTHON

"$folder/venv/bin/python" server.py 2> server.log &
server=$!
until [ -s port ]; do sleep 0.1; done
export WANDB_BASE_URL="http://127.0.0.1:$(cat port)" WANDB_API_KEY=0123456789012345678901234567890123456789
export HOME="$folder/home" WANDB_ERROR_REPORTING=false

for run in "online online allow" "resumed offline allow" "same offline no"; do
    read -r name mode resume <<< "$run"
    python="$folder/venv/bin/python"
    "$python" train.py "$name" "$mode" "$resume" 0 3 > /dev/null
    sleep 1.5  # the folders are named, and synced, in the order of their seconds
    "$python" train.py "$name" "$mode" "$resume" 2 5 > /dev/null
    if [ "$mode" = offline ]; then
        "$python" -m wandb sync wandb/offline-run-*-"$name" > sync.log 2>&1
    fi
done

"$folder/venv/bin/python" - <<'PYTHON'
import json

found = {}
for line in open("rows.jsonl"):
    name, offset, steps, logged = json.loads(line)
    chunks = found.setdefault(name, [])
    # A process may send its rows in several chunks.
    if chunks and chunks[-1][0] + len(chunks[-1][1]) == offset and chunks[-1][2][-1] + 1 == logged[0]:
        chunks[-1][1].extend(steps)
        chunks[-1][2].extend(logged)
    else:
        chunks.append((offset, steps, logged))
for name, chunks in found.items():
    print(name, *(f"steps {steps} at line {offset}, logged as {logged}" for offset, steps, logged in chunks), sep="\n  ")
resumed, same = found["resumed"], found["same"]
online = [(step, at) for _, steps, logged in found["online"] for step, at in zip(steps, logged)]
as_said = (
    online == [(step, step) for step in range(6)]
    and [chunk[1:] for chunk in resumed] == [([0, 1, 2, 3], [0, 1, 2, 3]), ([4, 5, 6, 7], [2, 3, 4, 5])]
    and same[-1] == (0, [2, 3, 4, 5], [2, 3, 4, 5])
)
raise SystemExit(0 if as_said else "the behaviour has changed")
PYTHON
