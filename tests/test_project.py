"""What the project says about itself is said once, and is true."""

import re
import tomllib
from pathlib import Path

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
