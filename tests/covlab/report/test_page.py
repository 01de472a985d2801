import base64
import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from covlab.report.page import format_interval, format_number, write_report
from covlab.report.verdict import Check, Verdict

VOID = {"meta", "link", "img", "br", "hr", "input"}
BLUE, PINK = (20, 60, 220), (230, 40, 150)
SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="300" height="200" viewBox="0 0 300 200">'
    '<rect width="300" height="200" fill="rgb(230,40,150)"/></svg>'
)


class Page(HTMLParser):
    """Collects tags, attributes and text, and fails on a tag that is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))

    def of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


def verdict(*checks: Check, **changes: object) -> Verdict:
    fields = {
        "claim": "some_claim",
        "source": "Paper, section 1",
        "scale": "cpu",
        "checks": checks,
        "seeds": (5, 6),
        "wall_seconds": 61.4,
        "hardware": {"cpu": "A CPU", "cores": 2, "memory_gib": 8.0, "accelerators": []},
        "command": "python -m experiments.some_claim scale=cpu",
        "started": "2026-02-03T04:05:06+00:00",
        "versions": {"python": "3.11.7", "jax": "0.10.2", "covlab": "0.1.0"},
        "notes": ("A note.",),
    }
    return Verdict(**fields | changes)


GOOD = Check("score", 0.995, (0.9912345, 1.0), ">= 0.98", True)
MISSED = Check("spread", 2.0, (1.5, 2.5), "<= 1", False)
BAD = Check("gap", None, None, "lower end of the interval > 0", False)


@pytest.fixture
def pictures(tmp_path: Path) -> tuple[Path, Path]:
    png, svg = tmp_path / "blue.png", tmp_path / "pink.svg"
    matplotlib.image.imsave(png, np.full((200, 300, 3), BLUE, dtype=np.uint8))
    svg.write_text(SVG)
    return png, svg


def write(path: Path, pictures: tuple[Path, Path]) -> Path:
    return write_report(
        path / "report.html",
        "Coverage against KL",
        verdict(GOOD, BAD),
        figures=[("A blue field.", pictures[0]), ("A pink field.", pictures[1])],
        tables=[
            ("Numbers.", ("rule", "Pass@8", "ties"), [("last", 0.123456, 3), ("first", float("nan"), None)])
        ],
        config_text="task:\n  depth: 8\n",
        timings={"steps a second": 123.456, "compile (s)": 2},
        intro_paragraphs=["First.", "Second."],
    )


def test_page_is_well_formed_and_refers_to_nothing_outside_itself(tmp_path, pictures):
    text = write(tmp_path, pictures).read_text(encoding="utf-8")
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>")
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in {"script", "iframe", "object", "form"}
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("data:", "#"))
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import", text)
    tags = dict(page.tags)
    assert tags["html"] == {"lang": "en"}
    metas = [attributes for tag, attributes in page.tags if tag == "meta"]
    assert {"charset": "utf-8"} in metas
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    assert page.of("title") == page.of("h1") == ["Coverage against KL"]


def test_page_shows_every_check_and_what_made_it(tmp_path, pictures):
    page = Page(write(tmp_path, pictures).read_text(encoding="utf-8"))
    cells = page.of("td")
    assert cells[:5] == ["score", "✓ passed", "0.995", "[0.9912, 1]", ">= 0.98"]
    assert cells[5:10] == ["gap", "? open", "—", "—", "lower end of the interval > 0"]
    assert cells[10:16] == ["last", "0.1235", "3", "first", "—", "—"]
    facts = dict(zip(page.of("th")[-8:], cells[16:], strict=True))
    assert facts == {
        "Command": "python -m experiments.some_claim scale=cpu",
        "Hardware": "A CPU, 2 cores, 8.0 GiB",
        "Versions": "python 3.11.7, jax 0.10.2, covlab 0.1.0",
        "Seeds": "5, 6",
        "Started": "2026-02-03T04:05:06+00:00",
        "Wall-clock time": "61 s",
        "steps a second": "123.5",
        "compile (s)": "2",
    }
    assert page.of("pre") == ["task:\n  depth: 8"]
    assert page.of("summary") == ["Timings", "Configuration"]
    assert {"First.", "Second.", "A note."} <= set(page.of("p"))


@pytest.mark.parametrize(
    ("checks", "banner", "more"),
    [
        ((GOOD,), "HOLDS", ""),
        ((GOOD, BAD), "OPEN", " 1 check is open; more seeds alone may not decide it."),
        ((GOOD, MISSED), "REFUTED", " Refuted by: spread."),
        ((), "OPEN", ""),
    ],
)
def test_banner_states_the_verdict(tmp_path, checks, banner, more):
    page = Page(write_report(tmp_path / "r.html", "T", verdict(*checks)).read_text(encoding="utf-8"))
    assert page.of("div") == [banner]
    assert page.of("span") == [
        f"Claim some_claim: {checks.count(GOOD)} of {len(checks)} checks passed.{more}"
    ]


def test_figures_are_embedded_with_caption_and_alternative_text(tmp_path, pictures):
    page = Page(write(tmp_path, pictures).read_text(encoding="utf-8"))
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    for image, picture, kind in zip(images, pictures, ("png", "svg+xml"), strict=True):
        head, _, data = image["src"].partition(",")
        assert head == f"data:image/{kind};base64"
        assert base64.b64decode(data) == picture.read_bytes()
    assert [image["alt"] for image in images] == ["Figure 1: A blue field.", "Figure 2: A pink field."]
    assert (images[0]["width"], images[0]["height"]) == ("300", "200")
    assert page.of("figcaption") == ["A blue field.", "A pink field."]


def test_all_text_is_escaped(tmp_path, pictures):
    evil = "<script>alert('1')</script> & \"quoted\""
    path = write_report(
        tmp_path / "r.html",
        evil,
        verdict(
            Check(evil, 1.0, None, evil, True), claim=evil, source=evil, command=evil, notes=(evil,),
            hardware={"cpu": evil}, versions={evil: evil},
        ),
        figures=[(evil, pictures[0])],
        tables=[(evil, (evil,), [(evil,)])],
        config_text=evil,
        timings={evil: evil},
        intro_paragraphs=(evil,),
        provenance={evil: evil},
    )  # fmt: skip
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.open == []
    assert sum(evil in text for _, text in page.texts) >= 17
    assert next(attributes["alt"] for tag, attributes in page.tags if tag == "img") == f"Figure 1: {evil}"


def test_a_page_without_a_claim_has_no_banner(tmp_path):
    path = write_report(
        tmp_path / "r.html", "A run", intro_paragraphs="One text.", provenance={"Command": "x"}
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert page.of("h2") == ["How this page was made"]
    assert page.of("p") == ["One text."]
    assert "HOLD" not in "".join(text for tag, text in page.texts if tag != "style")


def test_bad_figures_and_tables_are_named_in_one_line(tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("no picture")
    for arguments, fragment in (
        ({"figures": [("c", tmp_path / "absent.png")]}, "absent.png: No such file"),
        ({"figures": [("c", other)]}, "other.txt: neither PNG nor SVG"),
        ({"tables": [("c", ("a", "b"), [(1, 2), (1,)])]}, "'c' row 1 has 1 cells; valid: 2"),
    ):
        with pytest.raises(ValueError, match=re.escape(fragment)) as caught:
            write_report(tmp_path / "r.html", "T", **arguments)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "—"), (float("nan"), "—"), (np.float32("inf"), "—"), (True, "yes"), (np.bool_(False), "no"),
        (0.123456, "0.1235"), (1.0, "1"), (4240.0, "4240"), (64000.4, "64000"), (-0.5, "-0.5"),
        (3e-5, "3e-05"), (7, "7"), (np.int64(123456), "123456"), ("text", "text"),
    ],
)  # fmt: skip
def test_numbers_as_text(value, text):
    assert format_number(value) == text


def test_intervals_as_text():
    assert format_interval((0.25, 1.0)) == "[0.25, 1]"
    assert format_interval(None) == "—"


def asked_by_page(log: Path) -> list[str]:
    """Requests of the page in the network log; requests without an origin are the browser's."""
    started = [event["params"] for event in json.loads(log.read_text())["events"] if "params" in event]
    return [
        params["url"] for params in started if params.get("initiator", "not an origin") != "not an origin"
    ]


@pytest.mark.long
def test_a_browser_draws_every_figure_and_asks_for_nothing_else(tmp_path, pictures):
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next((found for found in map(shutil.which, names) if found), None)
    if browser is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no browser among {', '.join(names)}")
        pytest.skip(f"no browser among {', '.join(names)}")
    log, shot = tmp_path / "net.json", tmp_path / "shot.png"
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={tmp_path / 'profile'}",
        f"--log-net-log={log}", "--window-size=1000,2600",
    ]  # fmt: skip

    def visit(page: Path, *options: str) -> str:
        arguments = [*command, *options, page.as_uri()]
        return subprocess.run(arguments, capture_output=True, text=True, timeout=100, check=True).stdout

    greedy = tmp_path / "greedy.html"
    greedy.write_text('<img src="http://elsewhere.invalid/x.png">')
    visit(greedy, "--dump-dom")
    assert asked_by_page(log) == ["http://elsewhere.invalid/x.png"]

    report = write(tmp_path, pictures)
    assert visit(report, "--dump-dom").count("<figcaption>") == 2
    assert asked_by_page(log) == []
    visit(report, f"--screenshot={shot}")
    assert asked_by_page(log) == []
    pixels = np.round(matplotlib.image.imread(shot)[..., :3] * 255)
    for colour in (BLUE, PINK):
        assert np.all(np.abs(pixels - colour) <= 3, axis=-1).sum() > 100 * 100
