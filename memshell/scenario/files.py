"""The player's dealings with the system: scenario files, output files, and its shell."""

from __future__ import annotations

from pathlib import Path

from memshell.errors import CommandError, UsageError, did_you_mean


def read_scenario(path: str) -> str:
    """Return the text of a scenario file.  Raises UsageError when it is missing or not UTF-8."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=_neighbours(path)) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start})") from error


def _neighbours(path: str) -> str | None:
    folder = Path(path).parent
    names = [str(item) for item in folder.glob("*.mem")] if folder.is_dir() else []
    return did_you_mean(path, names)


def run_shell(command: str, text: str | None = None, *, capture: bool = False) -> str:
    """Run a command of the system's shell with *text* as its input.  Raises CommandError when it fails."""
    import subprocess

    output = subprocess.PIPE if capture else None
    done = subprocess.run(  # noqa: S603 - running what the user typed is the purpose
        ["/bin/sh", "-c", command], input=text, text=True, check=False, stdout=output
    )
    if done.returncode:
        raise CommandError(f"`{command}` ended with status {done.returncode}")
    return done.stdout or ""


def write_output(path: str, text: str, *, append: bool) -> None:
    """Write a command's output to a file.  Raises CommandError."""
    try:
        with Path(path).open("a" if append else "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from error
