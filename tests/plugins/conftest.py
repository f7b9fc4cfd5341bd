"""A clean virtual environment into which memshell and plugins are installed, without a network."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("memshell", "plugins", "scenarios", "pyproject.toml", "README.md", "LICENSE")


class CleanVenv:
    """An environment that has memshell as a wheel installs it, and what it depends on, linked."""

    def __init__(self, folder):
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        self._link_dependencies()
        copy = folder / "memshell"
        copy.mkdir()
        for name in SOURCES:
            into = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            into(ROOT / name, copy / name)
        self.install(copy)

    def _link_dependencies(self):
        """Make everything importable that this environment has, but for memshell itself."""
        links = self.folder / "dependencies"
        links.mkdir()
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if not path.name.startswith(("memshell", "__editable__", "distutils-precedence", "__pycache__")):
                (links / path.name).symlink_to(path)
        (site,) = (self.folder / "venv" / "lib").glob("python*/site-packages")
        (site / "dependencies.pth").write_text(f"{links}\n")

    def install(self, project):
        """Install a project as `pip install PROJECT` does."""
        options = ["--quiet", "--no-index", "--no-build-isolation", "--no-deps", "--no-warn-script-location"]
        done = self.run("-m", "pip", "--disable-pip-version-check", "install", *options, str(project))
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *arguments, cwd=None):
        """Run the environment's Python, away from any checkout."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [str(self.python), *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=cwd or self.folder,
            env=environment,
            check=False,
        )

    def memshell(self, *arguments):
        """Run memshell."""
        return self.run("-m", "memshell", *arguments)


@pytest.fixture(scope="session")
def venv(tmp_path_factory):
    return CleanVenv(tmp_path_factory.mktemp("clean"))
