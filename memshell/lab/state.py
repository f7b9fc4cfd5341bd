"""A guest's state as a recording has it: read by the code that reads a captured machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from memshell.capture.collect import NODE, Tree, read_state
from memshell.capture.formats import pagetypeinfo

MEMORY_KB = ("MemTotal", "MemFree", "MemAvailable", "Slab", "PageTables", "CommitLimit", "VmallocUsed", "Percpu")


class GuestTree(Tree):
    """The files of a `snap`, as a tree: name -> text."""

    def __init__(self, text: str) -> None:
        super().__init__(Path("/"))
        self.files: dict[str, str] = {}
        for part in text.split("@F ")[1:]:
            name, _, lines = part.partition("\n")
            self.files[name] = lines

    def bytes(self, name: str, instead: str | None = None) -> bytes | None:
        """Return a file's bytes, or None."""
        del instead
        found = self.files.get(name)
        return None if found is None else found.encode()

    def names(self, folder: str, pattern: str) -> list[int]:
        """Return the numbers N of the entries of *folder* that *pattern* matches, rising."""
        entries = {name[len(folder) + 1 :].split("/")[0] for name in self.files if name.startswith(f"{folder}/")}
        return sorted(int(match[1]) for entry in entries if (match := re.fullmatch(pattern, entry)))


def guest_state(text: str) -> dict[str, Any]:
    """Return the state in a `snap`.  Raises `RecordingError` where there are no memory blocks in it."""
    tree = GuestTree(text)
    state = read_state(tree)
    _, state["pageblocks"] = pagetypeinfo(tree.files.get("proc/pagetypeinfo", ""))
    # What a virtio driver claims of a bus is no memory; the region of virtio-mem is the model's to place.
    state["iomem"] = [line for line in state.get("iomem", ()) if not line[3].startswith("virtio")]
    meminfo = state["meminfo_kb"]
    state["meminfo_kb"] = {
        name: value for name, value in meminfo.items() if name in MEMORY_KB or name.startswith(("DirectMap", "Huge"))
    }
    nodes = {
        name.rpartition("/")[2]: lines.strip() for name, lines in tree.files.items() if name.startswith(f"{NODE}/has_")
    }
    state["nodes"] |= nodes
    return state


def online_ranges(state: dict[str, Any], page_size: int) -> list[tuple[int, int]]:
    """Return the pfn ranges of blocks that are online, neighbours joined."""
    pages = state["block_size_bytes"] // page_size
    found: list[tuple[int, int]] = []
    for number in sorted(int(name) for name, shown in state["memory_blocks"].items() if shown["state"] == "online"):
        if found and found[-1][1] == number * pages:
            found[-1] = (found[-1][0], (number + 1) * pages)
        else:
            found.append((number * pages, (number + 1) * pages))
    return found
