"""What the project says about itself is said once, and is true."""

import re
import tomllib
from pathlib import Path

import pytest

import memshell

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]


def test_the_version_stands_in_one_place():
    assert "version" not in PROJECT
    assert PROJECT["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"] == {"version": {"attr": "memshell.__version__"}}
    assert memshell.__version__.count(".") == 2


def test_the_licence_is_an_expression_and_a_file():
    assert PROJECT["license"] == "MIT"
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])
    assert not any(classifier.startswith("License ::") for classifier in PROJECT["classifiers"])


def test_the_hooks_before_a_commit_are_what_make_lint_runs():
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].partition("\n\n")[0]
    assert re.findall(r"repo: (.*)", hooks) == ["local"]
    entries = re.findall(r"entry: \.venv/bin/(ruff \w+|\w+)", hooks)
    assert entries == re.findall(r"\$\(BIN\)/(ruff \w+|\w+)", lint)


GUIDES = [path for path in sorted(ROOT.glob("*.md")) if path.name != "CHANGELOG.md"]  # that one speaks of the past
TOPS = "memshell|plugins|tests|docs|scenarios|examples"


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_path_that_a_guide_names_is_there(guide):
    """`plugins/ARCH/callers.py` is there when one architecture has it: capitals stand for a name."""
    text = guide.read_text(encoding="utf-8")
    named = re.findall(rf"(?<![\w/.-])(?:{TOPS})/[\w./-]*[\w/]", text) + re.findall(r"\]\(([\w./-]+)\)", text)
    missing = []
    for path in {*named}:
        pattern = re.sub(r"\b[A-Z]{2,}\b(?!\.md)", "*", path)
        if not any(True for form in (pattern, f"{pattern}.py") for _ in ROOT.glob(form.rstrip("/"))):
            missing.append(path)
    assert named
    assert missing == []


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_every_make_target_that_a_guide_names_is_there(guide):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"(?:`|^|; )make ([a-z-]+)", guide.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= targets


def test_the_changelog_begins_with_what_is_not_released():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"


def test_every_package_is_installed():
    """The list in pyproject.toml is by name: a package that is not in it is missing from an installed memshell."""
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "memshell").rglob("__init__.py")}
    assert found <= set(listed)
