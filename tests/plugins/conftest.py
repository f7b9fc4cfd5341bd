"""Clean virtual environments into which memshell and plugins are installed, without a network."""

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("memshell", "plugins", "scenarios", "docs", "pyproject.toml", "README.md", "LICENSE")
PIP = ("-m", "pip", "--disable-pip-version-check")
OFFLINE = ("--quiet", "--no-index", "--no-build-isolation", "--no-deps")


def pytest_collection_modifyitems(items):
    """Mark what builds and installs packages as slow."""
    for item in items:
        if "wheel" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


class CleanVenv:
    """An environment with the links to what memshell depends on, and nothing else at first."""

    def __init__(self, folder):
        self.folder = folder
        self.python = folder / "venv" / "bin" / "python"

    def make(self):
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.folder / "venv"], check=True)
        self._link_dependencies()

    def _link_dependencies(self):
        """Make everything importable that this environment has, but for memshell itself."""
        links = self.folder / "dependencies"
        links.mkdir()
        for path in Path(sysconfig.get_path("purelib")).iterdir():
            if not path.name.startswith(("memshell", "__editable__", "distutils-precedence", "__pycache__")):
                (links / path.name).symlink_to(path)
        (site,) = (self.folder / "venv" / "lib").glob("python*/site-packages")
        (site / "dependencies.pth").write_text(f"{links}\n")

    def install(self, *projects):
        """Install projects or wheels as `pip install PROJECT` does."""
        done = self.run(*PIP, "install", *OFFLINE, "--no-warn-script-location", *map(str, projects))
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *arguments, cwd=None):
        """Run the environment's Python, away from any checkout."""
        return subprocess.run(
            [str(self.python), *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            cwd=cwd or self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            check=False,
        )

    def memshell(self, *arguments):
        """Run memshell."""
        return self.run("-m", "memshell", *arguments)


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """A folder that one worker of pytest-xdist fills and all of them use."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def folder(name, fill):
        path, done = shared / name, shared / f"{name}.done"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(path, ignore_errors=True)
                path.mkdir()
                fill(path)
                done.touch()
        return path

    return folder


@pytest.fixture(scope="session")
def wheel(once):
    """What `pip install .` installs, built from a copy: a build leaves folders behind."""

    def build(folder):
        for name in SOURCES:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, folder / "source")
        command = [sys.executable, *PIP, "wheel", *OFFLINE, "--wheel-dir", folder, folder / "source"]
        subprocess.run(command, check=True, capture_output=True)

    (path,) = once("wheel", build).glob("*.whl")
    return path


@pytest.fixture(scope="session")
def environment(once, wheel):
    """Make a clean environment with memshell, once for all workers; *fill* installs the rest."""

    def make(name, fill=lambda _venv: None):
        def filled(folder):
            venv = CleanVenv(folder)
            venv.make()
            venv.install(wheel)
            fill(venv)

        return CleanVenv(once(name, filled))

    return make


@pytest.fixture(scope="session")
def venv(environment):
    """An environment with memshell alone."""
    return environment("clean")
