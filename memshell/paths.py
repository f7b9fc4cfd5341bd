"""Where memshell keeps its files: the XDG places, and the scenarios that it brings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from memshell.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def _base(variable: str, fallback: str) -> Path:
    # The specification: a relative path in the variable is to be ignored.
    given = os.environ.get(variable, "")
    return Path(given) if given.startswith("/") else Path.home() / fallback


def state_path() -> Path:
    """Return the folder for history and journals, whether it exists or not."""
    return _base("XDG_STATE_HOME", ".local/state") / "memshell"


def rc_path() -> Path:
    """Return the path of the start-up scenario, whether it exists or not."""
    return _base("XDG_CONFIG_HOME", ".config") / "memshell" / "rc.mem"


def cache_path() -> Path:
    """Return the folder for what can be made again, whether it exists or not."""
    return _base("XDG_CACHE_HOME", ".cache") / "memshell"


def scenario_root() -> Path:
    """Return the folder of the scenarios that memshell brings."""
    from importlib.util import find_spec

    spec = find_spec("memshell_scenarios")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError("memshell's own scenarios are not installed", hint="pip install memshell-mm")
    return Path(spec.submodule_search_locations[0])


def own_scenarios() -> list[str]:
    """Return the names of the scenarios that memshell brings, such as tutorial/first."""
    root = scenario_root()
    return sorted(str(path.relative_to(root).with_suffix("")) for path in root.rglob("*.mem"))


def find_scenario(name: str, others: Callable[[], Mapping[str, Path]] = dict) -> str:
    """Return the path of a scenario: a file, or the name of one that memshell brings, such as tutorial/first.

    *others* are asked when there is none: those of plugins. Raises UsageError with the nearest name.
    """
    if Path(name).is_file():
        return name
    root = scenario_root()
    for candidate in (root / name, root / f"{name}.mem"):
        if candidate.is_file():
            return str(candidate)
    found, word = others(), name.removesuffix(".mem")
    if word in found:
        return str(found[word])
    raise UsageError(f"no scenario {name}: no such file", hint=_near_scenario(word, found))


def _near_scenario(name: str, others: Iterable[str]) -> str:
    """Return a hint: the scenario that is called *name* in some folder, or nearly so, else one of each folder."""
    known = [*own_scenarios(), *others]
    same = next((item for item in known if item.rpartition("/")[2].lower() == name.lower()), None)
    first = {item.partition("/")[0]: item for item in reversed(known)}
    of_ours = f"a file, or one of memshell's own, such as {', '.join(sorted(first.values()))}"
    return f"did you mean {same}?" if same else did_you_mean(name, known) or of_ours
