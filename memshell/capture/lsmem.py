"""What ``lsmem -J`` knows of a machine: its memory blocks, and nothing of what is in them."""

from __future__ import annotations

import json
import re
from typing import Any

from memshell.errors import RecordingError

RANGE = re.compile(r"0x([0-9a-fA-F]+)-0x([0-9a-fA-F]+)$")
BLOCKS = re.compile(r"(\d+)(?:-(\d+))?$")
MAX_BLOCKS = 1 << 20  # more than any kernel makes


def lsmem_state(text: str, name: str) -> tuple[dict[str, Any], list[str]]:
    """Return the state that the output of ``lsmem -J`` gives, and notes. Raises `RecordingError`."""
    try:
        lines = json.loads(text)["memory"]
        spans = [(_numbers(line), line) for line in lines]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RecordingError(f"{name} is no output of lsmem -J", hint="lsmem -J -o +NODE,ZONES > FILE") from error
    if not spans:
        raise RecordingError(f"{name} lists no memory")
    (start, end, first, last), _ = spans[0]
    size = (end - start) // (last - first)
    blocks: dict[str, dict[str, Any]] = {}
    for (start, end, first, last), line in spans:
        if size <= 0 or (start, end) != (first * size, last * size) or len(blocks) + last - first > MAX_BLOCKS:
            raise RecordingError(f"{name}: blocks {first} to {last - 1} are not {start:#x}-{end - 1:#x}")
        for number in range(first, last):
            blocks[str(number)] = _block(number, line)
    return {"block_size_bytes": size, "memory_blocks": blocks}, _notes(lines)


def _numbers(line: dict[str, Any]) -> tuple[int, int, int, int]:
    """Return the bytes and the block numbers of a line, both half-open."""
    span, blocks = RANGE.match(line["range"]), BLOCKS.match(str(line["block"]))
    if span is None or blocks is None:
        raise ValueError(line)
    return int(span[1], 16), int(span[2], 16) + 1, int(blocks[1]), int(blocks[2] or blocks[1]) + 1


def _block(number: int, line: dict[str, Any]) -> dict[str, Any]:
    block = {"state": str(line.get("state", "online")), "phys_index": number}
    if line.get("zones") is not None:
        block["valid_zones"] = str(line["zones"]).replace("/", " ").replace("None", "none")
    if line.get("node") is not None:
        block["node"] = int(line["node"])
    return block


def _notes(lines: list[dict[str, Any]]) -> list[str]:
    notes = [
        "lsmem: counters are not known; every page of an online block counts as free",
        "lsmem: /proc/iomem is not known; RAM is whole memory blocks, without holes",
        "lsmem: kernel and parameters are not known; `use` takes defaults without profile= and policy=",
    ]
    if any(line.get("zones") is None for line in lines):
        notes.append("lsmem: no ZONES column (-o +ZONES); online blocks are in the architecture's kernel zones")
    if any(line.get("node") is None for line in lines):
        notes.append("lsmem: no NODE column (-o +NODE); all memory is node 0's")
    if any(line.get("state") is None for line in lines):
        notes.append("lsmem: no STATE column; all blocks count as online")
    return notes
