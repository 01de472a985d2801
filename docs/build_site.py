"""The site of the documentation, written to build/site by Zensical.

    python docs/build_site.py

README, CHANGELOG, CONTRIBUTING, docs/*.md and docs/notebooks/*.ipynb are copied to build/docs with their
links and pictures, because a site has one folder of sources and these pages link to each other as they lie in
the repository. The pages below reference/ are made of docstrings, without importing the packages.

Errors are a link to a missing page or heading, a reference to a name that is not documented, a fault of a
docstring, text that a browser would take for a tag, and anything that a page would load from another site.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
STAGED = Path("build/docs")
SITE = Path("build/site")
ELSEWHERE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Pages outside docs/, and their names on the site."""
REFERENCE = {
    "covlab": ("covlab", "covlab.claims.claim", "covlab.claims.settings", "covlab.report.verdict"),
    "covlab.testing": ("covlab.testing",),
    "tasks": ("tasks", "tasks.checks"),
    "models": ("models", "models.contract"),
    "metrics": ("metrics", "metrics.evaluators"),
    "training": ("training", "training.optimizers", "training.optimizer_links"),
    "decoding": ("decoding", "decoding.explore"),
    "tracking": ("tracking",),
    "theory": ("theory.coverage_laws", "theory.vgb.laws", "theory.sgd.family"),
}
"""Modules on each page of the reference. A package shows the names in its `__all__`."""
UNKNOWN_TAG = re.compile(
    r"<(?!/|(?:a|article|b|blockquote|body|br|button|code|details|div|em|footer|form|h[1-6]|head|header|html"
    r"|img|input|label|li|link|main|meta|nav|ol|p|path|pre|small|span|strong|summary|svg"
    r"|table|tbody|td|th|thead|title|tr|ul)\b)[A-Za-z][\w-]*"
)
LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")
LOADED = re.compile(
    r"""<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"'\s>]+)"""
    r"""|url\(["']?((?:https?:)?//[^)"']+)"""
)


def sources(root: Path = ROOT) -> list[Path]:
    """Files that are pages of the site, relative to the repository."""
    docs = (*sorted(root.glob("docs/*.md")), *sorted(root.glob("docs/notebooks/*.ipynb")))
    return [*map(Path, ELSEWHERE), *(path.relative_to(root) for path in docs)]


def name_on_site(path: Path) -> Path:
    """The name below `STAGED` of a file that the repository has at `path`."""
    name = Path(ELSEWHERE.get(path.as_posix(), path.as_posix().removeprefix("docs/")))
    return name.with_suffix(".md") if name.suffix == ".ipynb" else name


def stage_page(page: Path, root: Path, staged: Path) -> None:
    """Copy a page and the pictures that it shows, with links as the site needs them.

    Raises:
        FileNotFoundError: the page shows a picture that does not exist.
        ValueError: the page links to a file that the site has no page for.
    """
    place = staged / name_on_site(page)
    place.parent.mkdir(parents=True, exist_ok=True)

    def moved(found: re.Match[str]) -> str:
        target = (root / page.parent / found[1]).resolve().relative_to(root.resolve())
        copy = staged / name_on_site(target)
        if target.suffix == ".png":
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / target, copy)
        elif target.parts[0] != "docs" and target.as_posix() not in ELSEWHERE:
            raise ValueError(f"{page}: link to {target}; valid: pages of the site and pictures")
        return Path(os.path.relpath(copy, place.parent)).as_posix()

    text = (root / page).read_text("utf-8")
    if page.suffix == ".ipynb":
        text = notebook_text(text, place)
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    # Parts with odd numbers are code.
    text = "".join(part if index % 2 else LINK.sub(moved, part) for index, part in enumerate(parts))
    place.write_text(text, "utf-8")


def notebook_text(text: str, place: Path) -> str:
    """A notebook as Markdown; the pictures of its outputs are written beside `place`."""
    parts = []
    for number, cell in enumerate(json.loads(text)["cells"]):
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                picture = place.with_name(f"{place.stem}_{number}.png")
                picture.write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f'<img src="{picture.name}" alt="output">')
            else:
                parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def directive(module: str) -> str:
    """The directive of a module's documentation; a page of its own has its heading already."""
    heading = (
        "" if "." in module and module not in REFERENCE else "    options:\n      show_root_heading: false\n"
    )
    return f"::: {module}\n{heading}"


def stage(root: Path = ROOT) -> None:
    """Fill `STAGED` anew."""
    staged = root / STAGED
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(root / "docs" / "assets", staged / "assets")
    for page in sources(root):
        stage_page(page, root, staged)
    (staged / "reference").mkdir()
    for name, modules in REFERENCE.items():
        text = "\n".join(map(directive, modules))
        (staged / "reference" / f"{name}.md").write_text(f"# {name}\n\n{text}", "utf-8")


def faults_of_page(text: str) -> list[str]:
    """Faults of a page or style sheet.

    Addresses of other sites from which it would load something, because the site has to work offline. In a
    page also tags that HTML does not have, because a browser leaves them out of the text.
    """
    elsewhere = [f"loaded from another site: {found[1] or found[2]}" for found in LOADED.finditer(text)]
    prose = re.sub(r"<(script|style|svg)\b.*?</\1>", "", text, flags=re.DOTALL)
    tags = UNKNOWN_TAG.findall(prose) if "<html" in text else []
    return elsewhere + [f"text in angle brackets outside code: {tag}" for tag in tags]


def main() -> int:
    """Build the site; 1 if there is a fault."""
    stage()
    shutil.rmtree(ROOT / SITE, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    docstrings = re.findall(r"^griffe: .*$", said, re.MULTILINE)
    if done.returncode or docstrings:
        print(said, file=sys.stderr)
        return 1
    pages = sorted((ROOT / SITE).rglob("*.html"))
    faults = [
        f"{path.relative_to(ROOT / SITE)}: {fault}"
        for path in (*pages, *sorted((ROOT / SITE).rglob("*.css")))
        for fault in faults_of_page(path.read_text("utf-8"))
    ]
    print("\n".join(faults), file=sys.stderr, end="\n" if faults else "")
    print(f"{SITE}/index.html: {len(pages)} pages, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
