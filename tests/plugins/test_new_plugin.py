"""What `memshell new-plugin` writes is a plugin: it installs, is found, conforms, and is clean for the linters."""

import json
import subprocess
import sys

import pytest

from memshell.__main__ import main

PROJECTS = {
    "arch": "toy64",
    "policy": "large-only",
    "commands": "zone-sizes",
    "checks": "site-rules",
    "columns": "page-count",
    "observers": "herald",
    "profile": "acme",
    "export": "block-list",
}
HOOKS = {
    "arch": ["memshell_arches"],
    "policy": ["memshell_policies"],
    "commands": ["memshell_commands"],
    "checks": ["memshell_check"],
    "columns": ["memshell_columns"],
    "observers": ["memshell_event"],
    "profile": ["memshell_features", "memshell_profiles", "memshell_quantities"],
    "export": ["memshell_formats"],
}


@pytest.fixture(scope="session")
def projects(environment):
    """An environment with all of them, written and installed by the installed memshell."""

    def fill(venv):
        for kind, name in PROJECTS.items():
            done = venv.memshell("new-plugin", kind, name)
            assert (done.returncode, done.stderr) == (0, "")
        venv.install(*(venv.folder / f"memshell-{name}" for name in PROJECTS.values()))

    return environment("projects", fill)


@pytest.mark.parametrize("kind", PROJECTS)
def test_a_new_project_is_a_plugin_that_passes_its_own_tests(projects, kind):
    name = PROJECTS[kind]
    found = {plugin["name"]: plugin for plugin in json.loads(projects.memshell("plugins", "--json").stdout)}
    plugin = found[name.replace("-", "_")]
    assert (plugin["state"], plugin["error"], plugin["version"]) == ("loaded", "", "0.1")
    assert plugin["hooks"] == HOOKS[kind]
    folder = projects.folder / f"memshell-{name}"
    assert {path.name for path in folder.iterdir()} >= {"LICENSE", ".gitignore", ".github", "README.md"}
    assert "$" not in (folder / ".github" / "workflows" / "test.yml").read_text()
    done = projects.run("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=projects.folder / f"memshell-{name}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", PROJECTS)
def test_the_line_to_try_it_without_installing_works(tmp_path, capsys, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", kind, "mine"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("try it:"))
    command = line.removeprefix("try it:").strip().replace("memshell ", f"{sys.executable} -m memshell ", 1)
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "memory33 online in Normal\n" if kind == "observers" else "")


def test_the_new_projects_are_typed_against_the_installed_package(projects):
    found = [*projects.folder.glob("memshell-*/*.py"), *projects.folder.glob("memshell-*/tests/*.py")]
    files = sorted(map(str, found))
    assert len(files) == 2 * len(PROJECTS)
    done = projects.run("-m", "mypy", "--strict", "--cache-dir=/dev/null", *files)
    assert done.returncode == 0, done.stdout


def test_the_new_projects_are_clean(projects):
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--extend-select", "E,F,I,B", "."]
    for folder in projects.folder.glob("memshell-*"):
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["polcy", "mine"], "new-plugin cannot write 'polcy'; did you mean policy?"),
        (["policy", "Large Only"], "'Large Only' cannot be the name of a plugin"),
        (["policy", "../up"], "'../up' cannot be the name of a plugin"),
        (["policy", "buddy"], "buddy exists already"),
        (["commands", "add"], "add exists already"),
        (["commands", "import"], "import is a word of Python's"),
        (["policy", "mine", "."], ". is there already"),
        (["policy"], "the following arguments are required: NAME"),
    ],
)
def test_what_cannot_be_written_is_one_line(tmp_path, capsys, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").write_text("mine")
    assert main(["new-plugin", *arguments]) in {1, 2}
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["something"]
