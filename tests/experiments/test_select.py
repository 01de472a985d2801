"""Selections on matrices whose answer is known by hand, on files, and on a run."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from covlab.claims.selection import median_table, run_matrices, run_tables, selection_table
from covlab.launch.log_prob_file import read_file, warning_of_means
from experiments import select
from metrics import tournament_matrix
from tracking import load_log_probs, read_records

PROBABILITIES = np.array([[0.5, 0.2, 0.1, 0.1], [0.4, 0.4, 0.1, 0.4], [0.1, 0.4, 0.2, 0.8]])
LOG_PROBS = np.log(PROBABILITIES)


def row(rows: list[dict], rule: str, n: float | None = None, tie_break: str | None = None) -> dict:
    (found,) = [r for r in rows if (r["rule"], r["n"], r["tie_break"]) == (rule, n, tie_break)]
    return found


def brute_force_scores(p: np.ndarray, n: float, weights: np.ndarray) -> list[float]:
    count = range(len(p))
    return [
        max(
            sum(w for w, a, b in zip(weights, p[k], p[m], strict=True) if a >= n * b * (1 - 1e-9))
            for k in count
            if k != m
        )
        for m in count
    ]


@pytest.mark.parametrize("n", [1.5, 2, 4])
def test_simple_tournament_is_the_brute_force_minimum(n: float) -> None:
    weights = np.array([0.4, 0.3, 0.2, 0.1])
    scores = brute_force_scores(PROBABILITIES, n, weights)
    tied = [i for i, score in enumerate(scores) if score <= min(scores) + 1e-9]
    table = selection_table(LOG_PROBS, weights, (10, 20, 30), (n,))
    cross_entropy = -(LOG_PROBS * weights).sum(axis=1)
    picks = {"earliest": tied[0], "latest": tied[-1], "middle": tied[(len(tied) - 1) // 2]}
    picks["min_cross_entropy"] = min(tied, key=lambda i: cross_entropy[i])
    for tie_break, index in picks.items():
        found = row(table, "simple_tournament", n, tie_break)
        assert (found["index"], found["step"], found["num_tied"]) == (index, 10 * (index + 1), len(tied))
        assert found["score"] == pytest.approx(min(scores))
        assert found["ce"] == pytest.approx(cross_entropy[index])
    assert row(table, "min_cross_entropy")["index"] == int(np.argmin(cross_entropy))
    assert row(table, "last")["step"] == 30
    assert {r["rule"] for r in table} == {"simple_tournament", "min_cross_entropy", "last"}


def test_oracles_report_the_values_at_their_choice() -> None:
    table = selection_table(
        LOG_PROBS,
        None,
        ("a", "b", "c"),
        (2,),
        ("earliest",),
        kl=np.array([0.3, 0.1, 0.2]),
        coverage={2.0: np.array([0.5, 0.25, 0.25])},
        pass_at_n={8: np.array([0.7, 0.8, 0.9])},
    )
    coverage = row(table, "oracle_coverage", 2, "earliest")
    assert (coverage["step"], coverage["num_tied"], coverage["tied_steps"]) == ("b", 2, ["b", "c"])
    assert row(table, "min_kl")["step"] == "b"
    best = row(table, "oracle_pass_at_n", 8)
    assert (best["step"], best["kl"], best["cov/2"], best["pass/8"]) == ("c", 0.2, 0.25, 0.9)


def test_offset_tournament_of_a_file_subtracts_the_own_samples(tmp_path: Path) -> None:
    # Model 1 beats model 0 by 4 on example 3, but model 0's own samples show that ratio just as often.
    log_probs = np.log([[0.5, 0.1], [0.5, 0.4]])
    samples = np.zeros((2, 2, 2, 1)) + math.log(0.1)
    samples[0, 1] = math.log(0.4)
    table = select.file_table(
        {"log_probs": log_probs, "sample_log_probs": samples}, (4,), ("earliest",), a=0.5
    )
    found = row(table, "offset_tournament", 4, "earliest")
    # Row 0: Cov_4 = 1/2 minus the own term 2 * 4^0.5 * 1 is below the 0 of the comparison with itself: a tie.
    assert (found["score"], found["tied_steps"]) == (0.0, [0, 1])
    assert "no guarantee" in found["note"]
    assert row(table, "simple_tournament", 4, "earliest")["step"] == 1


def test_median_table_is_the_median_over_seeds() -> None:
    tables = [
        selection_table(LOG_PROBS[order], None, (1, 2, 3), (2,))
        for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2])
    ]
    medians = median_table(tables)
    chosen = sorted(row(table, "min_cross_entropy")["step"] for table in tables)
    assert row(medians, "min_cross_entropy")["step"] == chosen[1]
    with pytest.raises(ValueError, match="tables: 0 of them"):
        median_table([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": ["best"]}, "rules: no rule 'best'; valid are simple_tournament"),
        ({"rules": []}, "rules: none"),
        ({"rules": ["min_kl"]}, "rules: min_kl needs the exact pi_D"),
        ({"tie_breaks": ["first"]}, "tie_break: 'first'; valid: one of"),
        ({"kl": np.zeros(2)}, "kl: 2 values; valid: one for each of the 3 checkpoints"),
        ({"ns": (0.5,)}, "ns: 0.5 is not a number >= 1"),
    ],
)
def test_selection_table_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        selection_table(
            **({"log_probs": LOG_PROBS, "weights": None, "steps": (1, 2, 3), "ns": (2,)} | options)
        )


def test_run_matrices_agree_with_the_metrics_file(tiny_run: Path) -> None:
    matrices = run_matrices(tiny_run)
    assert (matrices.phase, matrices.steps, matrices.seeds) == ("finetune", (0, 5, 10, 15, 20), (0, 1))
    kl, coverage, passes = matrices.kl(), matrices.coverage((2, 5.7)), matrices.pass_at_n((4,))
    assert passes is not None
    compared = 0
    for record in read_records(tiny_run / "metrics.jsonl"):
        if record["phase"] == "finetune" and "eval/kl" in record:
            at = (record["seed"], matrices.steps.index(record["step"]))
            assert kl[at] == pytest.approx(record["eval/kl"], abs=1e-9)
            assert coverage[5.7][at] == pytest.approx(record["eval/cov/5.7"], abs=1e-9)
            assert passes[4][at] == pytest.approx(record["eval/pass/4"], abs=1e-12)
            compared += 1
    assert compared == 10


def test_a_stochastic_pi_d_gives_every_answer_its_weight(tiny_run: Path) -> None:
    held = load_log_probs(tiny_run, "finetune_held_out")["finetune_held_out"]
    matrices = run_matrices(tiny_run, "finetune")
    assert matrices.log_probs.shape == (2, 5, (held["candidate_weight"] > 0).sum())
    assert matrices.weights.sum() == pytest.approx(1)
    share = matrices.weights[matrices.groups == 2].sum()
    assert share == pytest.approx(0.3)
    assert run_matrices(tiny_run, "pretrain").log_probs.shape[-1] == 32


@pytest.mark.long
def test_command_on_a_run(tiny_run: Path, call: Callable[..., object], tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_run, tmp_path / "tiny"))
    ended = call(select.main, f"run={path}", "n=2", "tie_break=middle", "pass_ns=[4,8]")
    assert (ended.status, ended.err) == (0, "")
    content = json.loads((path / "selection.json").read_text())
    assert content["phase"] == "finetune"
    expected = run_tables(run_matrices(tiny_run), (2,), ("middle",), (4, 8))
    assert content["seeds"] == {str(seed): json.loads(json.dumps(table)) for seed, table in expected.items()}
    assert (path / "figures" / "selection.png").stat().st_size > 1000
    assert "Median over 2 seeds" in ended.out


def write_csv(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_npz_and_csv_give_the_same_table(tmp_path: Path, call: Callable[..., object]) -> None:
    np.savez(tmp_path / "a.npz", log_probs=LOG_PROBS, names=np.array(["x", "y", "z"]))
    lines = [",".join([name, *map(repr, row.tolist())]) for name, row in zip("xyz", LOG_PROBS, strict=True)]
    write_csv(tmp_path / "a.csv", "\n".join(["model,e1,e2,e3,e4", *lines, ""]))
    assert call(select.main, "file=a.npz").status == 0
    assert call(select.main, "file=a.csv").status == 0
    first, second = (
        json.loads((tmp_path / f"a.{kind}.selection.json").read_text())["table"] for kind in ("npz", "csv")
    )
    assert first == second
    assert row(first, "last")["step"] == "z"


def test_what_a_file_knows_is_in_its_table() -> None:
    arrays = {
        "log_probs": LOG_PROBS,
        "log_pi": np.log([0.5, 0.4, 0.4, 0.8]),
        "correct": np.array([1, 0, 1, 1]),
    }
    table = select.file_table(arrays, (2,), ("earliest",), (2,))
    last = row(table, "last")
    assert last["kl"] == pytest.approx((math.log(5) + 0 + math.log(2) + 0) / 4)
    assert last["cov/2"] == pytest.approx(0.5)
    assert last["pass/2"] == pytest.approx((1 - 0.9**2 + 0 + 1 - 0.8**2 + 1 - 0.2**2) / 4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logprobs": LOG_PROBS}, "no array may be called logprobs; valid are log_probs"),
        ({"weights": np.ones(4)}, "no array log_probs; there are weights"),
        ({"log_probs": LOG_PROBS[0]}, r"log_probs has shape \(4,\); valid: \(models=4, examples\)"),
        ({"log_probs": LOG_PROBS, "weights": np.ones(3)}, r"weights has shape \(3,\); valid: \(examples=4\)"),
        ({"log_probs": LOG_PROBS, "names": np.arange(4)}, r"names has shape \(4,\); valid: \(models=3\)"),
        ({"log_probs": np.array([["a"]])}, "log_probs holds <U1; valid: numbers"),
        ({"log_probs": np.array([[-1.0, np.nan]])}, r"log_probs is NaN at \(0, 1\)"),
        ({"log_probs": -LOG_PROBS}, "log_probs: contains 2.3.*; valid: log-probabilities <= 0"),
        (
            {"log_probs": LOG_PROBS, "log_pi": np.array([-0.5, 0.25, -1.0, -2.0])},
            "log_pi: contains 0.25; valid: log-probabilities <= 0",
        ),
        (
            {"log_probs": LOG_PROBS, "sample_log_probs": np.full((3, 3, 4, 1), 0.5)},
            "sample_log_probs: contains 0.5; valid: log-probabilities <= 0",
        ),
        ({"log_probs": LOG_PROBS, "correct": np.array([0, 1, 2, 1])}, "correct holds values from 0 to 2"),
        ({"log_probs": np.zeros((0, 4))}, "none of them 0"),
    ],
)
def test_bad_npz_files_are_refused(arrays: dict, message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=message) as error:
        read_file(tmp_path / "bad.npz")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 lines; valid: a header"),
        ("m,-1.5,-2\nn,-1,-2\n", "the first line holds log-probabilities"),
        ("model,a,b\nm,-1\n", "line 2 has 2 columns; valid: 3"),
        ("model,a\nm,x\n", "line 2: 'x' is not a number"),
        ("model,a\nm,nan\n", "log_probs is NaN"),
    ],
)
def test_bad_csv_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_file(write_csv(tmp_path / "bad.csv", text))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run, file: exactly one of them is needed"),
        (["run=a", "file=b"], "run, file: exactly one of them is needed"),
        (["run=nowhere"], "nowhere/config.yaml: No such file"),
        (["file=nowhere.npz"], "file: nowhere.npz does not exist"),
        (["file=junk.npz"], "junk.npz: not a readable npz file"),
        (["file=positive.csv"], "log_probs: contains 2.0; valid: log-probabilities <= 0"),
        (["tie_breaks=middle"], "tie_breaks: no such key; valid are"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, call: Callable[..., object], tmp_path: Path
) -> None:
    (tmp_path / "junk.npz").write_bytes(b"no zip file")
    write_csv(tmp_path / "positive.csv", "model,a,b\nm,1,2\n")
    ended = call(select.main, *arguments)
    assert ended.status == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1


def test_rounding_above_0_is_no_error(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", log_probs=LOG_PROBS, log_pi=np.array([1e-5, -0.5, -0.5, -1.0]))
    assert read_file(tmp_path / "a.npz")["log_pi"][0] == 1e-5


def test_means_per_token_are_suspected_and_sums_are_not(call: Callable[..., object], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    # From 2 to 1 nat per token; only the first model is ever half as likely as another one, per token.
    means = -np.linspace(2, 1, 12)[:, None] * rng.uniform(0.9, 1.1, (12, 64))
    means[1:] = np.maximum(means[1:], means[-1] - 0.6)
    tokens = rng.integers(20, 200, 64)
    np.savez(tmp_path / "means.npz", log_probs=means)
    np.savez(tmp_path / "sums.npz", log_probs=means * tokens)
    ended = call(select.main, "file=means.npz", "n=2")
    assert ended.status == 0
    assert ended.err == (
        f"warning: means.npz: 11 of 12 models tie in the tournament, and no loss is above {-means.min():.3g} "
        "nats: if log_probs holds means per token, give sums over the response's tokens\n"
    )
    ended = call(select.main, "file=sums.npz", "n=2")
    assert (ended.status, ended.err) == (0, "")


@pytest.mark.parametrize(
    ("losses", "num_tied", "suspected"),
    [
        (np.full((4, 5), 2.0), (4, 4), True),
        (np.full((4, 5), 2.0), (3, 4), True),
        (np.full((4, 5), 2.0), (2, 4), False),
        (np.full((2, 5), 2.0), (2,), False),
        (np.full((4, 5), 13.0), (4,), False),
        (np.full((4, 5), 2.0), (), False),
        (np.full((4, 5), math.inf), (4,), False),
    ],
)
def test_what_looks_like_means(losses: np.ndarray, num_tied: tuple[int, ...], suspected: bool) -> None:
    assert (warning_of_means(-losses, num_tied) is not None) == suspected


def test_an_unknown_phase_names_those_there_are(tiny_run: Path) -> None:
    with pytest.raises(ValueError, match=r"phase: 'fine' is not in .*; valid are pretrain, finetune"):
        run_matrices(tiny_run, "fine")


def simulated(tmp_path: Path) -> tuple[list[str], np.ndarray]:
    """Six checkpoints on 300 examples as files of rows, and p of every response."""
    rng = np.random.default_rng(0)
    skill = np.array([0.2, 0.5, 0.9, 1.6, 2.2, 1.2])
    p = 1 / (1 + np.exp(rng.normal(2, 1.5, 300) - 1.5 * skill[:, None] + rng.normal(0, 0.5, (6, 300))))
    counts = rng.binomial(16, p)
    sources = []
    for i, step in enumerate((100, 200, 300, 400, 500, 600)):
        folder = tmp_path / "evaluations" / f"step-{step}"
        folder.mkdir(parents=True)
        rows = [
            {"prompt": f"q{j}", "target": "yes", "log_prob": math.log(p[i, j]), "num_samples": 16}
            | {"num_correct": int(counts[i, j])}
            for j in range(300)
        ]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        sources.append(str(folder / "rows.jsonl"))
    return sources, p


@pytest.mark.long
def test_evaluations_of_checkpoints(tmp_path: Path, call: Callable[..., object]) -> None:
    sources, p = simulated(tmp_path)
    later = tmp_path / "later.csv"
    lines = [f"step-{100 * (i + 1)},{value}" for i, value in enumerate(p.mean(axis=1))]
    later.write_text("\n".join(["checkpoint,value", *lines, ""]))
    ended = call(select.main, *sources[::-1], f"later={later}", "n=[2,4]", "pass_ns=[1,4]", "resamples=200")
    assert (ended.status, ended.err) == (0, "")
    found = json.loads((tmp_path / "selection.json").read_text())
    names = [f"step-{step}" for step in range(100, 700, 100)]
    assert found["log_probs"]["checkpoints"] == found["counts"]["checkpoints"] == names
    matrix = found["log_probs"]["tournament"]["4"]
    np.testing.assert_allclose(matrix, tournament_matrix(np.log(p), 4), atol=1e-12)
    np.testing.assert_allclose(found["log_probs"]["nats_per_response"], -np.log(p).mean(axis=1))
    bits = -np.log2(p).sum(axis=1) / 900
    np.testing.assert_allclose(found["log_probs"]["bits_per_byte"], bits)
    best = int(np.argmax(p.mean(axis=1)))
    assert found["counts"]["recommendation"]["take"] == names[best]
    assert found["log_probs"]["recommendation"]["take"] == names[best]
    assert sum(found["log_probs"]["recommendation"]["times_taken"].values()) == 200
    # Pass@4 of the counts and its interval, and the exact one within it.
    for i in range(6):
        interval = found["counts"]["measured"][i]["Pass@4"]
        assert interval["low"] < (1 - (1 - p[i]) ** 4).mean() < interval["high"]
    start, end = 1 - (1 - p[0]) ** 4, 1 - (1 - p[-1]) ** 4
    assert found["counts"]["change"]["coverage_ratio"]["k"] == 4
    assert len(found["counts"]["change"]["gained"]) > len(found["counts"]["change"]["lost"])
    assert (end > start).mean() > 0.9
    assert found["both"]["predictors"]["Pass@1"]["estimate"] > 0.9
    others = {"loss (nats/response)", "bits/byte", "simple tournament, N = 2"}
    assert set(found["both"]["predictors"]) >= others
    for name in ("log_probs", "counts"):
        assert (tmp_path / f"selection_{name}.png").stat().st_size > 1000
    assert "Recommendation: take step-500 (simple tournament, N = 2" in ended.out
    assert "The choice of every rule" in ended.out


def test_evaluations_that_cannot_be_told_apart_say_so(tmp_path: Path, call: Callable[..., object]) -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(1, 2, 40)
    np.savez(tmp_path / "a.npz", num_samples=np.full((2, 40), 16), num_correct=rng.binomial(16, p, (2, 40)))
    ended = call(select.main, "a.npz", "out=said.json")
    assert ended.status == 0
    assert "Recommendation: these examples cannot tell" in ended.out
    assert "With n = 16 samples of 40 examples, Pass@16 of" in ended.out
    assert "cannot be told apart." in ended.out
    assert json.loads((tmp_path / "said.json").read_text())["counts"]["recommendation"]["told_apart"] is False
    assert (tmp_path / "said_counts.png").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["run=x"], "run, file: exactly one of them is needed"),
        (["taus=[0]"], "taus: 0 is not"),
        (["resamples=0"], "resamples: 0"),
        (["examples=some"], "examples: 'some'; valid: all, common"),
        (["pass_ns=32"], "ns: contains 32; valid: at most the smallest num_samples, 16"),
        (["pair=[a,0]"], "pair: ['a', '0']; valid: two different of 0, 1"),
        (["later=nowhere.csv"], "later: nowhere.csv is no file in"),
        (["later=later.csv"], "later: no value of 1; there are 0"),
        (["format=xml"], "format: 'xml'; valid: one of lm-eval"),
        (["solved=nan"], "solved: nan is not"),
        (["task=a"], "task: "),
    ],
)
def test_bad_settings_of_evaluations_are_one_line(
    options: list[str], message: str, tmp_path: Path, call: Callable[..., object]
) -> None:
    np.savez(tmp_path / "a.npz", num_samples=np.full((2, 4), 16), num_correct=np.ones((2, 4), int))
    (tmp_path / "later.csv").write_text("checkpoint,value\n0,1\n")
    ended = call(select.main, "a.npz", *options)
    assert ended.status == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1
