"""The example plugins work where users have them: installed beside an installed memshell."""

import json
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = {"memshell-fastnode": "fastnode", "memshell-riscv64": "riscv64"}


@pytest.fixture(scope="session")
def examples(environment):
    """An environment with both, and their sources beside it."""

    def fill(venv):
        ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
        for name in EXAMPLES:
            shutil.copytree(ROOT / "examples" / name, venv.folder / name, ignore=ignored)
        venv.install(*(venv.folder / name for name in EXAMPLES))

    return environment("examples", fill)


def test_every_example_is_tried():
    assert {path.parent.name for path in (ROOT / "examples").glob("*/pyproject.toml")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_installed_and_passes_its_own_tests(examples, name):
    found = {plugin["name"]: plugin for plugin in json.loads(examples.memshell("plugins", "--json").stdout)}
    assert found[EXAMPLES[name]]["state"] == "loaded"
    assert found[EXAMPLES[name]]["origin"].startswith(f"{name}: ")
    done = examples.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=examples.folder / name)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_installed_examples_are_strict_clean(examples):
    command = "use riscv64 ram=4G; policy fastnode; add 8G node=2; online all movable"
    done = examples.memshell("--strict-plugins", "-c", command)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_installed_package_says_its_version_and_its_licence(venv):
    code = (
        "import memshell, importlib.metadata as found; data = found.metadata('memshell-mm');"
        "print(data['Version'] == memshell.__version__, data['License-Expression'], data.get_all('License-File'))"
    )
    assert venv.run("-c", code).stdout == "True MIT ['LICENSE']\n"
