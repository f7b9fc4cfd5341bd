# ruff: noqa: E501  (a mutant is a line)
"""Break the model in one line at a time: the tests that are named must notice each, within a minute.

    python tests/mutants.py              all of them; exit code 1 when one survives
    python tests/mutants.py WORD...      those whose name has a WORD in it
    python tests/mutants.py --find ...   try all test files of SUITES, and say which is the first that notices

A mutant is a line of MUTANTS. One that survives is a test that is missing, or equivalent: then its reason stands in
EQUIVALENT, and it is not run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 60.0  # seconds for one mutant
PACKAGES = {"memshell": "memshell", "plugins": "memshell_plugins", "scenarios": "memshell_scenarios"}


class Mutant(NamedTuple):
    """One break: in *file*, the text *old*, which is there once, becomes *new*; *tests* are pytest's words."""

    name: str
    file: str
    old: str
    new: str
    tests: str = "tests/mm/test_mutant_cases.py"


REC, FOUND, VEC = "tests/verify/test_recordings.py", "tests/properties/test_random_user.py", "tests/mm/test_vectors.py"
CASES, HOT = "tests/mm/test_mutant_cases.py", "tests/commands/test_hotplug.py"
POWER = "tests/plugins/test_powerpc.py"
SUITES = [CASES, REC, FOUND, HOT, POWER]

MEMMAP, POLICY = "memshell/mm/memory_hotplug/memmap_on_memory.py", "memshell/mm/memory_hotplug/online_policy.py"
ADD, REMOVE = "memshell/mm/memory_hotplug/add.py", "memshell/mm/memory_hotplug/remove.py"
ONLINE, OFFLINE = "memshell/mm/memory_hotplug/online.py", "memshell/mm/memory_hotplug/offline.py"
ZONE, ISOLATION = "memshell/mm/memory_hotplug/zone.py", "memshell/mm/page_isolation.py"
SPARSE, VMEMMAP, TABLES = "memshell/mm/sparse.py", "memshell/mm/sparse_vmemmap.py", "memshell/mm/pgtable.py"
ALLOC, AREA, CONTIG = (f"memshell/mm/page_alloc/{name}.py" for name in ("allocation", "free_area", "contig"))
MARKS, BLOCKS = "memshell/mm/page_alloc/watermarks.py", "memshell/drivers/base/memory/blocks.py"
STATE, MIGRATE = "memshell/drivers/base/memory/state.py", "memshell/mm/migrate.py"
REMAP, PROGRAMS, SCAN = "memshell/mm/memremap.py", "memshell/mm/programs.py", "memshell/drivers/acpi/scan.py"
RESOURCE, FOLIO = "memshell/kernel/resource.py", "memshell/mm/hugetlb/folio.py"

# fmt: off
MUTANTS = [
    # --- where the memmap goes, and what a block keeps of itself
    Mutant(
        "the sections of a whole memmap stay online",
        MEMMAP,
        "        offline_mem_sections(mm, pfn, pfn + whole)",
        "        pass",
    ),
    Mutant(
        "the sections of a whole memmap do not come online",
        MEMMAP,
        "        online_mem_sections(mm, pfn, pfn + whole)",
        "        pass",
    ),
    Mutant(
        "the pageblocks of a memmap are movable",
        MEMMAP,
        "nr_pages, MigrateType.UNMOVABLE)",
        "nr_pages, MigrateType.MOVABLE)",
        REC,
    ),
    Mutant(
        "the pages of a memmap stay when it goes",
        MEMMAP,
        "    mm.pages.delete(pfn, pfn + nr_pages)\n    mm.pageblocks",
        "    mm.pageblocks",
        REC,
    ),
    Mutant(
        "the flag is not looked at",
        MEMMAP,
        "if not flags & MHP_MEMMAP_ON_MEMORY:",
        "if not flags | MHP_MEMMAP_ON_MEMORY:",
        REC,
    ),
    # --- the zone that a block goes to
    Mutant(
        "a ratio that is met exactly is too much",
        POLICY,
        "movable + need <= ratio * early // 100",
        "movable + need < ratio * early // 100",
    ),
    Mutant(
        "kernel memory of the group does not count",
        POLICY,
        "        early += group.present_kernel",
        "        early -= group.present_kernel",
    ),
    Mutant("memory onlined later counts as early", POLICY, "early += zone.present_early", "early += zone.present"),
    Mutant(
        "a span that meets both zones is movable",
        POLICY,
        "return ZoneType.MOVABLE if mm.params.movable_node else kernel",
        "return ZoneType.MOVABLE",
        REC,
    ),
    Mutant(
        "a static group with kernel memory goes on",
        POLICY,
        "        if group.present_kernel:\n            return kernel\n",
        "",
    ),
    # --- add
    Mutant("an altmap may begin elsewhere", ADD, "if altmap.base_pfn != pfn or", "if"),
    Mutant("a node that is new stays after an error", ADD, "        if new_node:\n", "        if not new_node:\n"),
    Mutant(
        "blocks that cannot be made leave the sections",
        ADD,
        "        except KernelError:\n            mm.arch.arch_remove_memory(mm, start, size, None)\n            raise",
        "        except KernelError:\n            raise",
    ),
    Mutant(
        "the resource stays after an error",
        ADD,
        "        add_memory_resource(mm, nid, resource, flags, group)\n    except KernelError:\n        drop_resource(mm, resource)\n        raise",
        "        add_memory_resource(mm, nid, resource, flags, group)\n    except KernelError:\n        raise",
        REC,
    ),
    Mutant(
        "auto-online stops at offline only for online",
        ADD,
        'if mm.params.auto_online_blocks != "offline":',
        'if mm.params.auto_online_blocks == "online":',
        HOT,
    ),
    # --- remove
    Mutant("mixed memmaps are EBUSY", REMOVE, 'some not", "EINVAL", where=where)', 'some not", "EBUSY", where=where)'),
    Mutant(
        "several blocks with altmaps go at once", REMOVE, "and size != mm.block_size:", "and size == mm.block_size:"
    ),
    Mutant("rolled back blocks come back movable", REMOVE, 'else "online_kernel"', 'else "online_movable"'),
    Mutant(
        "rolled back blocks come back to the kernel zone",
        REMOVE,
        '"online_movable" if block.zone is not None',
        '"online_kernel" if block.zone is not None',
    ),
    Mutant(
        "a node is offlined though it has a block",
        REMOVE,
        " and not any(block.nid == nid for block in mm.blocks.values())",
        "",
    ),
    # --- online
    Mutant(
        "onlining counts no managed pages",
        ONLINE,
        "        mm.change_zone(key, managed=mm.zones[key].managed + end_pfn - start_pfn)",
        "        pass",
    ),
    Mutant(
        "the group does not hear of onlined pages",
        ONLINE,
        "adjust_present_page_count(mm, key, group, present)",
        "adjust_present_page_count(mm, key, None, present)",
        FOUND,
    ),
    Mutant("a refused online leaves its pages", ONLINE, "        mm.pages.delete(pfn, end_pfn)\n", ""),
    Mutant(
        "a refused online leaves the span",
        ONLINE,
        "        remove_pfn_range_from_zone(mm, key, pfn, nr_pages)\n        raise",
        "        raise",
    ),
    # --- offline
    Mutant(
        "pages in use are EBUSY at once",
        OFFLINE,
        "if mm.features.bug.offline_retries_forever:",
        "if not mm.features.bug.offline_retries_forever:",
    ),
    Mutant("memory holes go offline", OFFLINE, "if not mm.pages.covers(start_pfn, end_pfn) or", "if"),
    Mutant(
        "the last memory of a node leaves it in N_MEMORY",
        OFFLINE,
        "if mm.nodes[nid].present <= 0 and",
        "if mm.nodes[nid].present < 0 and",
    ),
    Mutant(
        "migration goes to the own node",
        OFFLINE,
        "if n != key[0] and node.n_memory)",
        "if n == key[0] and node.n_memory)",
    ),
    Mutant(
        "a notifier that refuses leaves pages isolated", OFFLINE, "        give_back(mm, start_pfn, end_pfn, key)\n", ""
    ),
    # --- spans and counts
    Mutant(
        "a zone's start does not shrink",
        ZONE,
        "    if zone.start_pfn == start_pfn:",
        "    if zone.start_pfn < start_pfn:",
    ),
    Mutant(
        "a zone's end does not shrink", ZONE, "    elif zone.end_pfn == end_pfn:", "    elif zone.end_pfn < end_pfn:"
    ),
    Mutant("early pages are not told apart", ZONE, "(nr_pages if early else 0)", "nr_pages"),
    Mutant("a zone grows from 0", ZONE, "    if not spanned:\n        return start_pfn, nr_pages\n", ""),
    # --- isolation
    Mutant(
        "a failed offline leaves the other pageblock type",
        ISOLATION,
        "    if not mm.features.pageblock.isolate_bit:\n        mm.pageblocks.set(start_pfn, end_pfn, MigrateType.MOVABLE)\n    given",
        "    if mm.features.pageblock.isolate_bit:\n        mm.pageblocks.set(start_pfn, end_pfn, MigrateType.MOVABLE)\n    given",
    ),
    Mutant("reserved pages can be isolated", ISOLATION, "page.owner is Owner.RESERVED or (", "("),
    Mutant("ZONE_MOVABLE is as unmovable as others", ISOLATION, " and page.zone is not ZoneType.MOVABLE)", ")"),
    Mutant(
        "what balloons hold is no hindrance",
        ISOLATION,
        "(Owner.FREE, Owner.OFFLINE) if offline else (Owner.FREE,)",
        "(Owner.FREE, Owner.OFFLINE)",
    ),
    # --- sections
    Mutant(
        "a section may be added twice",
        SPARSE,
        "    if mm.sections.intersects(start_pfn, end_pfn):\n",
        "    if False:\n",
    ),
    Mutant(
        "a section root is taken for each section",
        SPARSE,
        "    root = section_nr // sections_per_root(mm)\n    if root in",
        "    root = section_nr\n    if root in",
    ),
    Mutant("a memmap that failed counts", SPARSE, "counted = populated or mm.", "counted = True or mm."),
    Mutant(
        "boot memory's memmap counts with the rest",
        SPARSE,
        '"nr_memmap_boot_pages" if early else',
        '"nr_memmap_pages" if early else',
    ),
    # --- the vmemmap
    Mutant(
        "a leaf goes though it is used in part",
        VMEMMAP,
        "    if leaf is None or struct_pages_in_use(mm, va, va + size):",
        "    if leaf is None:",
    ),
    Mutant(
        "a neighbour's leaf is mapped once more",
        VMEMMAP,
        "            continue  # a neighbour",
        "            pass  # a neighbour",
    ),
    Mutant(
        "an altmap that is full falls back",
        VMEMMAP,
        "        elif altmap is not None:\n            raise",
        "        elif False:\n            raise",
    ),
    Mutant(
        "a PMD is filled from its start",
        VMEMMAP,
        "vmemmap_populate_basepages(mm, max(va, start), min(va + size, end), nid, None)",
        "vmemmap_populate_basepages(mm, va, va + size, nid, None)",
    ),
    Mutant("a device shares a page too few", VMEMMAP, "RESERVED_PAGES = 2 ", "RESERVED_PAGES = 3 "),
    # --- page tables
    Mutant(
        "a table goes though a leaf hangs on it",
        TABLES,
        '    if table is None or table.owner == "early" or mm.leaves.intersects(base, base + span):',
        '    if table is None or table.owner == "early":',
    ),
    Mutant(
        "a table of boot is freed",
        TABLES,
        '    if table is None or table.owner == "early" or mm',
        "    if table is None or mm",
    ),
    Mutant(
        "the last fragment does not take its page along",
        TABLES,
        "    free_range(mm, table.pfn, table.pfn + 1)",
        "    pass",
        POWER,
    ),
    Mutant("fragments have a page each", TABLES, "    if not mm.counters.get(left):\n", "    if True:\n", POWER),
    # --- the buddy
    Mutant(
        "the watermark is not kept",
        ALLOC,
        "    return zone.free - closed - mark - lowmem",
        "    return zone.free - closed - lowmem",
    ),
    Mutant("atomic allocations go no deeper", ALLOC, "        mark -= mark // 2  # __GFP_HIGH", "        pass"),
    Mutant("stealing converts nothing", ALLOC, "        mm.pageblocks.set(pfn, pfn + (1 << have), kind)\n", ""),
    Mutant("a small steal takes the pageblock", ALLOC, "    if free < size // 2:", "    if free < 0:"),
    Mutant(
        "buddies merge over the largest order",
        AREA,
        "        while order < self.max_order:",
        "        while order < self.max_order - 1:",
    ),
    Mutant(
        "a freed block does not merge",
        AREA,
        "            if not self._take_buddy(buddy, order, migratetype):",
        "            if True:",
    ),
    Mutant("the heads of the lists are forgotten", AREA, "        self._heads.append((start, end))", "        pass"),
    Mutant(
        "the lowest of the heads comes first",
        AREA,
        "for start, end in reversed(self._heads):",
        "for start, end in self._heads:",
    ),
    Mutant(
        "a contiguous range is not given back",
        CONTIG,
        "        give_back(mm, start, end, key)\n        undo",
        "        undo",
    ),
    Mutant("min_free_kbytes is not clamped below", MARKS, ", 128), 262144)", ", 0), 262144)"),
    Mutant(
        "ZONE_MOVABLE has the watermark of others",
        MARKS,
        "if key[1] >= ZoneType.MOVABLE:",
        "if key[1] > ZoneType.MOVABLE:",
    ),
    # --- drivers
    Mutant(
        "a block whose memmap lies in it keeps present",
        STATE,
        "        adjust_present_page_count(mm, key, block.group, -kept)",
        "        pass",
    ),
    Mutant("a refused state is EBUSY", STATE, 'is online already", "EINVAL"', 'is online already", "EBUSY"'),
    Mutant("blocks that were made stay", BLOCKS, "            del mm.blocks[done]", "            pass"),
    Mutant("an eject tries once", SCAN, "for second_pass in (False, True):", "for second_pass in (False,):"),
    Mutant(
        "an eject that fails leaves blocks offline",
        SCAN,
        "                memory_subsys_online(mm, block_id)",
        "                pass",
    ),
    Mutant("a device leaves its pages", REMAP, "    mm.pages.delete(pfn, pfn + nr_pages)\n", ""),
    Mutant(
        "a pinned page is let go by its tag",
        PROGRAMS,
        "(Owner.USER, Owner.PINNED) if pinned",
        "(Owner.PINNED, Owner.USER) if pinned",
    ),
    Mutant(
        "an inflated balloon stays managed",
        PROGRAMS,
        "managed=mm.zones[key].managed + sign *",
        "managed=mm.zones[key].managed + 0 *",
    ),
]

# name -> why no test can tell it from the model
EQUIVALENT: dict[str, str] = {
    "memory holes go offline": "a hole in a block of boot is no System RAM either, which the same line asks; added blocks have none",
}


def run_all(mutants: list[Mutant], *, find: bool) -> list[str]:
    """Run each mutant; return what is wrong, a line each."""
    wrong = []
    with TemporaryDirectory() as folder:
        place = Path(folder)
        for source, name in PACKAGES.items():
            shutil.copytree(ROOT / source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        for mutant in mutants:
            said = run_one(mutant, place, find=find)
            print(f"{mutant.name}: {said}", flush=True)
            if not said.startswith("caught"):
                wrong.append(f"{mutant.name}: {said}")
    return wrong


def run_one(mutant: Mutant, place: Path, *, find: bool) -> str:
    """Break the copy in *place*, run the tests, and mend it."""
    top, _, rest = mutant.file.partition("/")
    path = place / PACKAGES[top] / rest
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1:
        return f"the line is there {text.count(mutant.old)} times in {mutant.file}"
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
    started = time.monotonic()
    try:
        for tests in SUITES if find else [mutant.tests]:
            if (ROOT / tests.split()[0].partition("::")[0]).exists() and not passes(tests, place):
                return f"caught by {tests} in {time.monotonic() - started:.0f} s"
    except subprocess.TimeoutExpired:
        return f"caught: the tests do not end within {LIMIT:.0f} s"
    finally:
        path.write_text(text, encoding="utf-8")
    return "SURVIVES"


def passes(tests: str, place: Path) -> bool:
    """Whether the tests pass on the packages in *place*."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *tests.split()]
    command[3:3] = ["-p", "no:xdist"]
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, timeout=LIMIT, check=False)
    return done.returncode == 0


def main() -> int:
    """Run what the command line names."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    chosen = [m for m in MUTANTS if m.name not in EQUIVALENT and (not words or any(word in m.name for word in words))]
    wrong = run_all(chosen, find="--find" in sys.argv)
    print(f"{len(chosen) - len(wrong)} of {len(chosen)} caught")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
