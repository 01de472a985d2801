"""An environment with covlab's wheel and everything that it needs, which cannot see this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Installed:
    """A folder to work in, and an interpreter with the wheel installed.

    The environment of the tests has a `.pth` file that adds this checkout. A path that is named in another
    `.pth` file has its packages imported and its own `.pth` files ignored, so the checkout stays out.
    """

    def __init__(self, home: Path, folder: Path) -> None:
        self.folder = folder
        venv.create(home, with_pip=False, symlinks=True)
        self.python = home / "bin" / "python"
        shared = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
        (site,) = home.glob("lib/python*/site-packages")
        (site / "shared.pth").write_text("\n".join(shared) + "\n")
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(home)]
        self._run(build, ROOT)
        (wheel,) = home.glob("*.whl")
        self.pip("install", "--no-deps", str(wheel))
        places = self.run(
            "-c", "import conf, covlab, tasks, sys; print(conf, covlab, tasks, *sys.path, sep='\\n')"
        )
        assert places.count(str(home)) >= 3, places
        assert str(ROOT) not in {line for line in places.splitlines() if not line.startswith("<")}, places

    def pip(self, *arguments: str) -> str:
        """Run pip on the environment, without an index."""
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "--quiet"]
        return self._run([*command, *arguments, "--no-index"], self.folder)

    def run(self, *arguments: str, program: str = "python") -> str:
        """Run a program of the environment in the folder, which must succeed; returns
        the output."""
        return self._run([str(self.python.with_name(program)), *arguments], self.folder)

    def _run(self, command: list[str], folder: Path) -> str:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        environment |= {"JAX_PLATFORMS": "cpu", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1800, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout + done.stderr
