"""Times memshell beside the tools that also read struct page from a kernel image, as ratios.

``python tests/bench_vmlinux.py VMLINUX...``; tools that are not installed are left out. Each tool runs as a
process of its own, warm: the best of some runs. ``--limit SECONDS`` stops a tool that takes longer. memshell
reads ten structs with all their members, three enumerations, the symbols and the facts; the others only the
size of one struct.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYELFTOOLS = """
import sys
from elftools.elf.elffile import ELFFile
elf = ELFFile(open(sys.argv[1], "rb"))
for unit in elf.get_dwarf_info(relocate_dwarf_sections=elf["e_type"] == "ET_REL").iter_CUs():
    for die in unit.iter_DIEs():
        name, size = (die.attributes.get("DW_AT_" + key) for key in ("name", "byte_size"))
        if die.tag == "DW_TAG_structure_type" and name and size and name.value == b"page":
            print(size.value)
            raise SystemExit
"""
DRGN = """
import sys, drgn
program = drgn.Program()
found = program.extra_module("vmlinux", create=True)
module = found[0] if isinstance(found, tuple) else found
module.try_file(sys.argv[1], force=True)
print(drgn.sizeof(program.type("struct page")))
"""
FORCE_DWARF = """
import sys
from memshell.vmlinux.dwarf import Dwarf
from memshell.vmlinux.image import Image
from memshell.vmlinux import STRUCTS
dwarf = Dwarf(Image(sys.argv[1]).elf)
print([found.size for found in map(dwarf.struct, STRUCTS) if found])
"""


def tools(path: str) -> dict[str, list[str]]:
    """The command of each tool that is installed."""
    python = sys.executable
    found = {
        "memshell vmlinux": [python, "-m", "memshell", "vmlinux", path, "--json"],
        "memshell, DWARF only": [python, "-c", FORCE_DWARF, path],
    }
    pahole, gdb = shutil.which("pahole"), shutil.which("gdb-multiarch") or shutil.which("gdb")
    if pahole:
        found["pahole -C page"] = [pahole, "-C", "page", path]
    if importlib.util.find_spec("drgn"):
        found["drgn"] = [python, "-c", DRGN, path]
    if gdb:
        found["gdb"] = [gdb, "-nx", "-batch", "-ex", "print sizeof(struct page)", path]
    found["pyelftools, plain"] = [python, "-c", PYELFTOOLS, path]
    return found


def measure(command: list[str], runs: int, limit: float) -> tuple[float, float, str]:
    """Best wall time in seconds, peak memory in MB, and what went wrong."""
    best, peak = float("inf"), 0.0
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for _ in range(runs):
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        status = 0
        while child.returncode is None:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                child.returncode = os.waitstatus_to_exitcode(status)
                peak = max(peak, usage.ru_maxrss / 1024)
            elif time.perf_counter() - start > limit:
                child.kill()
                os.wait4(child.pid, 0)
                return limit, peak, f"stopped after {limit:.0f} s"
            else:
                time.sleep(0.001)
        best = min(best, time.perf_counter() - start)
        if status:
            return best, peak, f"exit {child.returncode}"
    return best, peak, ""


def main() -> None:
    """Print one table for each image."""
    parser = argparse.ArgumentParser(description="memshell vmlinux beside pahole, drgn, gdb and pyelftools")
    parser.add_argument("images", nargs="+", metavar="VMLINUX")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--limit", type=float, default=60.0)
    given = parser.parse_args()
    for image in given.images:
        print(f"{image} ({Path(image).stat().st_size / 1e6:.0f} MB)")
        base = None
        for name, command in tools(image).items():
            seconds, memory, problem = measure(command, given.runs, given.limit)
            base = base or seconds
            print(f"  {name:22} {seconds:8.3f} s {seconds / base:8.2f} x {memory:7.0f} MB  {problem}")


if __name__ == "__main__":
    main()
