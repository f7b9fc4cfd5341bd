"""Bring the examples up to date: ``python tests/renew.py`` rewrites what commands and documents show.

Read the difference before you commit it: this writes down what the program does, right or wrong.
"""

import inspect
import re
import shutil
import subprocess
import sys
import tempfile
from os import chdir
from pathlib import Path

from memshell.commands.reference import documented
from memshell.scenario.suite import shared_plugins
from memshell.scenario.transcript import renewed

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))
import example_files  # noqa: E402 - it lies beside this file


def renew_commands(wanted):
    """Rewrite the EXAMPLES of the commands whose module is among *wanted* (all, when it is empty)."""
    for item in documented(shared_plugins()):
        path = Path(inspect.getsourcefile(inspect.unwrap(item.function)))
        if item.examples and (not wanted or path.stem in wanted):
            text = path.read_text(encoding="utf-8")
            fresh = renewed(item.examples, shared_plugins).rstrip("\n")
            if fresh != item.examples:
                print(f"{path.name}: {item.name}")
                path.write_text(text.replace(item.examples, fresh.replace("\\", "\\\\")), encoding="utf-8")


def renew_document(path):
    """Rewrite the transcripts of a document."""

    def fresh(match):
        return f"```memshell\n{renewed(match[1], shared_plugins)}```"

    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"^```memshell\n(.*?)^```", fresh, text, flags=re.DOTALL | re.MULTILINE), encoding="utf-8")
    for name in re.findall(r"\]\(pictures/([\w.-]+)\)", text):  # what the transcripts made
        (path.parent / "pictures").mkdir(exist_ok=True)
        shutil.copy(name, path.parent / "pictures" / name)


def main():
    """Renew the commands of the named modules, or everything."""
    broken = [plugin.name for plugin in shared_plugins().found if plugin.state == "failed"]
    if broken:
        sys.exit(f"not while plugins cannot be loaded: {', '.join(broken)}")  # it would write their errors down
    wanted = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        chdir(folder)  # examples may write files
        example_files.lay_out()  # and read these
        renew_commands(wanted)
        for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
            if not wanted and path.name != "commands.md":
                with tempfile.TemporaryDirectory() as own:
                    chdir(own)
                    example_files.lay_out()
                    renew_document(path)
                    chdir(folder)
    # The declarations that are loaded are the old ones: a fresh process makes the page.
    page = subprocess.run([sys.executable, "-m", "memshell.commands.reference"], stdout=subprocess.PIPE, check=True)
    (ROOT / "docs" / "commands.md").write_bytes(page.stdout)


if __name__ == "__main__":
    main()
