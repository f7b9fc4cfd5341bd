"""Every example in help, README and docs is run, and its output is the real one."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from memshell.commands.reference import documented, reference
from memshell.scenario.golden import mismatch
from memshell.scenario.parameters import matrix
from memshell.scenario.suite import play_text_case, shared_plugins
from memshell.scenario.transcript import failures
from memshell.shell.dispatch import help_text
from memshell.shell.registry import FAMILIES

ROOT = Path(__file__).parent.parent


sys.path.append(str(ROOT / "tests"))
import example_files  # noqa: E402 - it lies beside this file

COMMANDS = documented(shared_plugins())


@pytest.mark.parametrize("item", COMMANDS, ids=lambda item: item.name)
def test_the_examples_of_a_command(item, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example_files.lay_out()
    assert failures(item.examples, shared_plugins) == []


@pytest.mark.parametrize("item", COMMANDS, ids=lambda item: item.name)
def test_a_command_is_described(item):
    assert item.family in FAMILIES
    assert item.summary.endswith(".")
    assert item.examples, "every command has an example"
    assert all(argument.help for argument in item.arguments)
    assert max(len(line) for line in help_text(item).partition("EXAMPLES")[0].splitlines()) <= 100


def blocks():
    """Yield (document, line, language, text) for the fenced blocks of README.md and docs/; the fast run plays README's."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, match.start()) + 1
            marks = [] if path.name == "README.md" else [pytest.mark.slow]
            yield pytest.param(match[1], match[2], id=f"{path.name}:{line}", marks=marks)


def console(text, folder):
    """Run the ``$`` lines of a console block; return where the output is not what it says."""
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder), "COLUMNS": "100"}
    found = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, *expected = part.splitlines()
        while command.endswith("\\"):
            command = command[:-1] + expected.pop(0).lstrip("> ")
        environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder), "COLUMNS": "100"}
        done = subprocess.run(
            ["/bin/sh", "-c", f"{command} 2>&1"],
            capture_output=True, text=True, timeout=120, cwd=ROOT, env=environment, check=False,
        )  # fmt: skip
        wrong = mismatch(expected, done.stdout.splitlines())
        if wrong is not None:
            found.append(f"$ {command}\n{wrong}")
    return found


def image_folder(text):
    """Return the folder of the kernel image that an example names; the project has none itself."""
    name = re.search(r"vmlinux-[\w.+-]+", text)
    if name is None:
        return ROOT
    fixtures = Path(os.environ.get("MEMSHELL_FIXTURES", ROOT.parent / "shared" / "fixtures"))
    found = next(fixtures.rglob(name[0]), None) if fixtures.is_dir() else None
    return found.parent if found else pytest.skip(f"{name[0]} is not here")


@pytest.mark.parametrize("language, text", list(blocks()))
def test_the_examples_of_the_documents(language, text, tmp_path, monkeypatch):
    if language == "memshell":
        monkeypatch.chdir(tmp_path)
        example_files.lay_out()
        assert failures(text, shared_plugins) == []
        for picture in (ROOT / "docs" / "pictures").iterdir():
            if Path(picture.name).exists():
                assert Path(picture.name).read_bytes() == picture.read_bytes(), "make docs draws it anew"
    elif language == "mem":
        monkeypatch.chdir(ROOT)
        for values in matrix(text, "example", {}):
            assert play_text_case("example", text, values).all_failures() == []
    elif language == "console":
        assert console(text, tmp_path) == []
    elif language == "python":
        monkeypatch.chdir(image_folder(text))
        exec(compile(text, "example", "exec"), {"__name__": "example"})
    else:
        assert language in {"text", "toml", "sh", "json"}, "a language that a test knows how to run"


def test_the_command_reference_is_what_the_declarations_say():
    assert (ROOT / "docs" / "commands.md").read_text(encoding="utf-8") == reference(COMMANDS)


def test_every_picture_of_a_document_is_there_and_is_shown():
    shown = set()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for name in re.findall(r"\]\(([\w./-]*pictures/[\w.-]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / name).is_file(), f"{path.name}: {name}"
            shown.add(Path(name).name)
    assert {path.name for path in (ROOT / "docs" / "pictures").iterdir()} == shown
