"""The player's dealings with the system: scenario files, output files, and its shell."""

from __future__ import annotations

from pathlib import Path

from memshell.errors import CommandError, UsageError, did_you_mean


def read_scenario(path: str) -> str:
    """Return the text of a scenario file.  Raises UsageError when it is missing or not UTF-8."""
    try:
        return read_bytes(Path(path), MOST_BYTES).decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=_neighbours(path)) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start})") from error


MOST_BYTES = 16 << 20  # of a scenario


def read_bytes(path: Path, most: int) -> bytes:
    """Return what a file holds. Raises UsageError for more than *most* bytes, and for a pipe that nobody named on purpose."""
    if path.exists() and not (
        path.is_file() or path.is_dir() or path.is_relative_to("/dev/fd") or path.is_char_device()
    ):
        raise UsageError(f"cannot read {path}: it is no file")
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise UsageError(f"{path} is larger than {most >> 20} MiB")
    return data


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
