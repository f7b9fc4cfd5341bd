"""Lines for a shell of a Linux machine, as documents have them: ``echo online_movable > /sys/devices/.../state``.

A write to a file of the modelled kernel is the command that does it here; no file of this machine is ever written.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from memshell.errors import UsageError, did_you_mean
from memshell.mm.params import MEMMAP_ON_MEMORY, PARAMETERS
from memshell.scenario.syntax import Run, parse_text
from memshell.scenario.words import expand, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memshell.mm.state import Mm
    from memshell.scenario.expression import Names
    from memshell.shell.shell import Shell

BEFORE = ("$", "%", "sudo")  # what a document or a terminal puts before a command
SHELLS = ("sh", "bash", "dash", "zsh")
WRITERS = ("echo", "printf")
_OURS = ("/sys/", "/proc/")
_TEE = re.compile(r"(?:sudo\s+)?tee\s+(?:-a\s+)?(/\S+)(?:\s*>\s*/dev/null)?")
_MEMORY = r"/sys/(?:devices/system/(?:memory|node/node\d+)|bus/memory/devices)/"
_HUGE = r"hugepages/hugepages-(\d+)kB/nr_hugepages"


def kernel_file(statement: Run, names: Names) -> str | None:
    """Return the file below /sys or /proc that a line writes, by a redirection or by tee; None for other lines."""
    path = None
    if statement.redirect is not None:
        path = expand(statement.redirect[1], names)
    elif statement.pipe is not None:
        found = _TEE.fullmatch(statement.pipe)
        path = found[1] if found else None
    return path if path is not None and path.startswith(_OURS) else None


def as_run(statement: Run, names: Names, shell: Shell) -> tuple[Run, str | None]:
    """Return a line that no command begins as one of ours, where it is one, and the kernel's file that it writes."""
    words = _without_prompt([word if word in BEFORE else expand(word, names) for word in statement.words])
    path = kernel_file(statement, names)
    if len(words) == 3 and words[0] in SHELLS and words[1] == "-c":
        inner = parse_text(words[2], statement.where.file, first_line=statement.where.line)
        if len(inner) == 1 and isinstance(inner[0], Run):
            return as_run(replace(inner[0], must_fail=statement.must_fail, golden=statement.golden), names, shell)
    if path is None and len(words) == len(statement.words):
        return statement, None
    if path is not None:
        words = as_command(words, path, shell.need_machine().mm)
        statement = replace(statement, redirect=None, pipe=None)
    plain = tuple(quote(word) for word in words)
    return replace(statement, words=plain, text=" ".join(plain)), path


def _without_prompt(words: Sequence[str]) -> list[str]:
    """Return *words* without what a document or a terminal puts before a command."""
    rest = list(words)
    while len(rest) > 1 and rest[0] in BEFORE:
        del rest[0]
    return rest


def as_command(words: Sequence[str], path: str, mm: Mm) -> list[str]:
    """Return the command that does what writing the output of *words* to *path* does.  Raises UsageError."""
    if words[0] not in WRITERS:
        raise UsageError(f"only echo writes to {path}", hint=f"echo WORD > {path}")
    options = [word for word in words[1:] if word in ("-n", "-e")]
    value = " ".join(words[1 + len(options) :]).replace("\\n", "").strip()
    if not value:
        raise UsageError(f"nothing is written to {path}", hint=f"echo WORD > {path}")
    for pattern, make in _FILES:
        found = re.fullmatch(pattern, path)
        if found:
            return make(mm, value, *found.groups())
    if _is_stored(path):
        return ["write", path, value]
    hint = did_you_mean(path, _known(mm)) or "help /sys lists the files that can be written"
    raise UsageError(f"{path} is no file that can be written here", hint=hint)


def _is_stored(path: str) -> bool:
    """Whether `write` takes the file: it is what a mounted machine lets a program write."""
    from memshell.views.sysroot import File, declared

    place = declared(path)
    return place is not None and isinstance(place.what, File) and place.what.store is not None


def _state(_mm: Mm, value: str, block: str) -> list[str]:
    kinds = {"online": [], "online_movable": ["movable"], "online_kernel": ["kernel"]}
    if value in kinds:
        return ["online", block, *kinds[value]]
    return ["offline", block] if value == "offline" else ["write", f"memory{block}/state", value]


def _online(_mm: Mm, value: str, block: str) -> list[str]:
    return ["write", f"memory{block}/online", value]


def _auto_online(_mm: Mm, value: str) -> list[str]:
    return ["set", f"auto_online_blocks={value}"]


def _probe(mm: Mm, value: str) -> list[str]:
    from memshell.mm.pfn import format_size

    return ["add", value, format_size(mm.block_size), "via=probe"]


def _module(_mm: Mm, value: str, name: str) -> list[str]:
    if name == MEMMAP_ON_MEMORY:
        raise UsageError(f"{name} can only be read while the kernel runs", hint="at boot: use ARCH memmap_on_memory=Y")
    if name not in PARAMETERS or not PARAMETERS[name].module:
        known = [known for known, parameter in PARAMETERS.items() if parameter.module]
        raise UsageError(f"memory_hotplug has no parameter {name}", hint=did_you_mean(name, known) or ", ".join(known))
    return ["set", f"{name}={value}"]


def _thp(_mm: Mm, value: str) -> list[str]:
    return ["set", f"transparent_hugepage={value}"]


def _hugepages(_mm: Mm, value: str, kilobytes: str) -> list[str]:
    from memshell.mm.pfn import format_size

    return ["hugepages", f"{format_size(int(kilobytes) << 10)}={value}"]


def _node_hugepages(mm: Mm, value: str, node: str, kilobytes: str) -> list[str]:
    return [*_hugepages(mm, value, kilobytes), f"node={node}"]


def _default_hugepages(mm: Mm, value: str) -> list[str]:
    from memshell.mm.hugetlb.boot import default_order

    order = default_order(mm)
    if order is None:
        raise UsageError("this kernel has no huge pages")
    return _hugepages(mm, value, str((mm.arch.page_size << order) >> 10))


def _gigantic(_mm: Mm, value: str) -> list[str]:
    return ["set", f"movable_gigantic_pages={value}"]


def _dlpar(_mm: Mm, value: str) -> list[str]:
    return ["dlpar", *value.split()]


# The files that a command of its own writes; `write` takes the others of views/sysroot.py.
_FILES: tuple[tuple[str, Callable[..., list[str]]], ...] = (
    (_MEMORY + r"memory(\d+)/state", _state),
    (_MEMORY + r"memory(\d+)/online", _online),
    ("/sys/devices/system/memory/auto_online_blocks", _auto_online),
    ("/sys/devices/system/memory/probe", _probe),
    (r"/sys/module/memory_hotplug/parameters/(\w+)", _module),
    ("/sys/kernel/mm/transparent_hugepage/enabled", _thp),
    (f"/sys/kernel/mm/{_HUGE}", _hugepages),
    (rf"/sys/devices/system/node/node(\d+)/{_HUGE}", _node_hugepages),
    ("/proc/sys/vm/nr_hugepages", _default_hugepages),
    ("/proc/sys/vm/movable_gigantic_pages", _gigantic),
    ("/sys/kernel/dlpar", _dlpar),
)


def _known(mm: Mm) -> list[str]:
    """Return files that can be written, for a path that is nearly one of them."""
    memory, block = "/sys/devices/system/memory", mm.blocks.last()
    modules = [name for name, parameter in PARAMETERS.items() if parameter.module]
    plain = [pattern for pattern, _ in _FILES if pattern.replace("/", "").replace("_", "").isalnum()]
    return [
        f"{memory}/memory{block}/state",
        f"{memory}/memory{block}/online",
        *(f"/sys/module/memory_hotplug/parameters/{name}" for name in modules),
        *plain,
    ]
