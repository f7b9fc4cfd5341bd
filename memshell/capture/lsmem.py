"""What ``lsmem`` and ``lsmem -J`` know of a machine: its memory blocks, and nothing of what is in them."""

from __future__ import annotations

import json
import re
from typing import Any

from memshell.errors import RecordingError

RANGE = re.compile(r"0x([0-9a-fA-F]+)-0x([0-9a-fA-F]+)$")
BLOCKS = re.compile(r"(\d+)(?:-(\d+))?$")
MAX_BLOCKS = 1 << 20  # more than any kernel makes


def lsmem_state(text: str, name: str) -> tuple[dict[str, Any], list[str]]:
    """Return the state that the output of ``lsmem``, for people or ``-J``, gives, and notes. Raises `RecordingError`."""
    try:
        lines = json.loads(text)["memory"] if text.lstrip().startswith("{") else table(text)
        spans = [(_numbers(line), line) for line in lines]
        _ = [_block(0, line) for line in lines]
    except KeyError as error:
        hint = "lsmem -J -o RANGE,SIZE,STATE,BLOCK,NODE,ZONES > FILE"
        raise RecordingError(f"{name} does not say {str(error).strip(chr(39)).upper()}", hint=hint) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise RecordingError(f"{name} is no output of lsmem", hint="lsmem -J -o +NODE,ZONES > FILE") from error
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


COLUMNS = {"RANGE", "SIZE", "STATE", "REMOVABLE", "BLOCK", "NODE", "ZONES", "CONFIGURED", "MEMMAP-ON-MEMORY"}
WORD = re.compile(r"\S+")
SUMMARY = re.compile(r"Memory block size: +([0-9.]+)([KMGT])", re.IGNORECASE)


def table(text: str) -> list[dict[str, Any]]:
    """Return the lines of what lsmem prints for people, as ``lsmem -J`` has them; other lines are passed over.

    Where a header says no BLOCK, the summary's block size says which they are. Raises ValueError without a header.
    """
    header: list[re.Match[str]] = []
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        words = line.split()
        if {"RANGE", "SIZE"} <= {*words} <= COLUMNS:
            header = list(WORD.finditer(line))
        elif header and words and RANGE.match(words[0]):
            found.append(dict(_cell(header, word) for word in WORD.finditer(line)))
    summary = SUMMARY.search(text)
    if not found:
        raise ValueError("no header with RANGE and SIZE, or no line under it")
    if all(column[0] != "BLOCK" for column in header):
        if summary is None:
            raise ValueError("neither BLOCK nor the summary says the block size")
        size = int(float(summary[1]) * (1 << {"K": 10, "M": 20, "G": 30, "T": 40}[summary[2].upper()]))
        for row in found:
            first, last = (int(part, 16) for part in row["range"].split("-"))
            row["block"] = f"{first // size}-{last // size}"
    return found


def _cell(header: list[re.Match[str]], word: re.Match[str]) -> tuple[str, str]:
    """Return the column that a word stands in, which is most under it: cells may be empty, and wider than their head."""
    column = max(header, key=lambda head: min(head.end(), word.end()) - max(head.start(), word.start()))
    return column[0].lower(), word[0]


def _numbers(line: dict[str, Any]) -> tuple[int, int, int, int]:
    """Return the bytes and the block numbers of a line, both half-open."""
    span, blocks = RANGE.match(line["range"]), BLOCKS.match(str(line["block"]))
    if span is None or blocks is None:
        raise ValueError(line)
    return int(span[1], 16), int(span[2], 16) + 1, int(blocks[1]), int(blocks[2] or blocks[1]) + 1


def _block(number: int, line: dict[str, Any]) -> dict[str, Any]:
    block = {"state": str(line.get("state", "online")), "phys_index": number}
    if line.get("removable") in ("no", False) and block["state"] != "offline":
        block["removable"] = "0"
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
    fixed = sum(line.get("removable") in ("no", False) and line.get("state") != "offline" for line in lines)
    if fixed:
        notes.append(
            f"lsmem: REMOVABLE is no in {fixed} lines: what cannot be migrated there is not shown, and may go here"
        )
    if any(line.get("state") is None for line in lines):
        notes.append("lsmem: no STATE column; all blocks count as online")
    return notes
