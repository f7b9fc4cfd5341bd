"""Wrong architectures and policies, one mistake each: the conformance kit catches every one, and names the mistake.

They are mutants of the built-in architectures and of the examples, which conform themselves.
"""

import datetime as dt
import os
import random
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from memshell_plugins.arm64 import Arm64, mmu
from memshell_plugins.memmap_policies import Buddy, MemmapOnMemory
from memshell_plugins.powerpc import Powerpc
from memshell_plugins.s390 import S390
from memshell_plugins.x86_64 import X86

from memshell import (
    KernelError,
    OutOfMemory,
    Placement,
    TableLevel,
    ZoneType,
    add_pages,
    align_down,
    align_up,
    ensure_table,
    free_vmemmap_pages,
    remove_pages,
    set_leaf,
    vmemmap_alloc_block_buf,
)
from memshell import conformance_trial as trial
from memshell.testing import arch_conformance, policy_conformance

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "memshell-riscv64"))
from memshell_riscv64 import Riscv64

PMD, PUD = 2 << 20, 1 << 30
QUICK = ("DirectMapOf3m", "NoErrno", "TableForgotten", "AltmapPageLeaked", "WrongPfn", "IomemHalf", "ExtraTable")
ARCHES, POLICIES = {}, {}


def few(arch, **chosen):
    """Return *arch* with one choice for each option, so that it is tried on few machines."""
    options = [
        replace(
            option, default=chosen.get(option.name, option.default), choices=(chosen.get(option.name, option.default),)
        )
        if option.choices
        else option
        for option in arch.options
    ]
    return replace(arch, options=tuple(options))


def wrong(says, **chosen):
    """Enter a class as a mutant; *says* is in the report, *chosen* are its options."""

    def enter(kind):
        ARCHES[kind.__name__] = kind, says, chosen
        return kind

    return enter


def wrong_policy(says):
    def enter(kind):
        POLICIES[kind.__name__] = kind, says
        return kind

    return enter


# --- the direct map ---


@wrong("the direct map has a leaf of 3M at")
class DirectMapOf3m(Riscv64):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        super().arch_add_memory(mm, nid, start, size, altmap)
        low = self.page_offset + start
        set_leaf(mm, low, low + size, 3 << 20, start >> 12, "ram")


@wrong("the direct map's leaf of 4K at", direct_map="blocks")
class DirectMapOfPagesWithoutTables(Arm64):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        super().arch_add_memory(mm, nid, start, size, altmap)
        low = self.page_offset + start
        set_leaf(mm, low, low + size, 4096, start >> 12, "ram")


@wrong("the direct map's leaf of 2M at")
class NoTablesAtAll(X86):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        set_leaf(mm, self.page_offset + start, self.page_offset + start + size, PMD, start >> 12, "ram")
        add_pages(mm, nid, start >> 12, size >> 12, altmap)
        mm.max_pfn = max(mm.max_pfn, start + size >> 12)


@wrong("leads to pfn", direct_map="blocks")
class WrongPfn(Arm64):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        super().arch_add_memory(mm, nid, start, size, altmap)
        for a, b, leaf in list(mm.leaves.items(self.page_offset + start, self.page_offset + start + size)):
            set_leaf(mm, a, b, leaf.size, (start >> 12) + (leaf.size >> 12), "ram")


@wrong("is not in the direct map")
class DirectMapShifted(Riscv64):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        super().arch_add_memory(mm, nid, start, size, altmap)
        low = self.page_offset + start
        mm.leaves.delete(low, low + (1 << 20))


@wrong("is not in the direct map")
class HalfOfTheDirectMap(Riscv64):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        super().arch_add_memory(mm, nid, start, size, altmap)
        mm.leaves.delete(self.page_offset + start + size // 2, self.page_offset + start + size)


@wrong("and no memory is there", direct_map="blocks")
class MapsTwiceAsMuch(Arm64):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        super().arch_add_memory(mm, nid, start, size, altmap)
        mmu.create_mapping(mm, start + size, start + 2 * size, blocks=True)


@wrong("was removed and is still in the direct map")
class DirectMapStays(Riscv64):
    def arch_remove_memory(self, mm, start, size, altmap):
        remove_pages(mm, start >> 12, size >> 12, altmap)


@wrong("is not in the direct map", direct_map="blocks")
class UnmapsTheNeighbour(Arm64):
    def arch_remove_memory(self, mm, start, size, altmap):
        remove_pages(mm, start >> 12, size >> 12, altmap)
        mmu.remove_mapping(mm, start, start + 2 * size)


@wrong("and no memory is there")
class DirectMapStaysWhenItFails(X86):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        before = {address for address, _, _ in mm.leaves.items()}
        try:
            super().arch_add_memory(mm, nid, start, size, altmap)
        except KernelError:
            self.again(mm, start, size, before)
            raise

    def again(self, mm, start, size, before):
        low = self.page_offset + start
        ensure_table(mm, "p4d_pud", low, 512 * PUD, 0)
        for va in range(align_down(low, PUD), low + size, PUD):
            ensure_table(mm, "pmd", va, PUD, 0)
        set_leaf(mm, low, low + size, PMD, start >> 12, "ram")


# --- page tables ---


@wrong("hangs in no page table: no pmd table at")
class TableForgotten(Riscv64):
    def vmemmap_populate(self, mm, start, end, nid, altmap):
        super().vmemmap_populate(mm, start, end, nid, altmap)
        key = "pmd", align_down(start, PUD)
        if key in mm.tables:
            del mm.tables[key]


@wrong("are a page table, and no table stands in them")
class TablePageForgotten(Arm64):
    def arch_remove_memory(self, mm, start, size, altmap):
        kept = {key: table for key, table in mm.tables.items() if table.owner == "buddy"}
        remove_pages(mm, start >> 12, size >> 12, altmap)
        mm.leaves.delete(self.page_offset + start, self.page_offset + start + size)
        for level, base in kept:
            if base < self.vmemmap_base and (level, base) in mm.tables and not mm.leaves.intersects(base, base + PMD):
                del mm.tables[level, base]


@wrong("stands, and nothing hangs in it: it was not needed, or not freed")
class ExtraTable(Riscv64):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        super().arch_add_memory(mm, nid, start, size, altmap)
        ensure_table(mm, "pmd", self.page_offset + start + 64 * PUD, PUD, 0)


@wrong("stands, and nothing hangs in it: it was not needed, or not freed", direct_map="blocks")
class TablesAreNeverFreed(Arm64):
    def arch_remove_memory(self, mm, start, size, altmap):
        remove_pages(mm, start >> 12, size >> 12, altmap)
        mm.leaves.delete(self.page_offset + start, self.page_offset + start + size)


@wrong("stands, and nothing hangs in it: it was not needed, or not freed")
class VmemmapTablesAreNeverFreed(X86):
    def vmemmap_free(self, mm, start, end, altmap):
        for a, b, leaf in list(mm.leaves.items(start, end)):
            mm.leaves.delete(a, b)
            free_vmemmap_pages(mm, (a >> 12) + leaf.shift, b - a >> 12, leaf.owner, altmap)


@wrong("and one spans 1G")
class WrongSpan(Riscv64):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        super().arch_add_memory(mm, nid, start, size, altmap)
        ensure_table(mm, "pmd", self.page_offset + start + PMD, PMD, 0)


@wrong("there is a 'middle' table at")
class UnknownLevel(Riscv64):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        super().arch_add_memory(mm, nid, start, size, altmap)
        ensure_table(mm, "middle", self.page_offset + start, PUD, 0)


@wrong("came without a page: early=True is for what boot maps")
class TablesForNothing(X86):
    def vmemmap_tables(self, mm, va, nid, *, early=False):
        super().vmemmap_tables(mm, va, nid, early=True)


@wrong("an entry is one of them")
class TableUnderALeaf(X86):
    def vmemmap_populate(self, mm, start, end, nid, altmap):
        super().vmemmap_populate(mm, start, end, nid, altmap)
        ensure_table(mm, "pte", start, PMD, nid)

    def vmemmap_free(self, mm, start, end, altmap):
        super().vmemmap_free(mm, start, end, altmap)


@wrong("is the pte table at", direct_map="blocks")
class TablePageFreedAndUsed(Arm64):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        super().arch_add_memory(mm, nid, start, size, altmap)
        mm.tables["pte", self.page_offset + start] = replace_pfn(mm, start >> 12)


def replace_pfn(mm, pfn):
    table = next(iter(mm.tables.values()))
    return table._replace(pfn=pfn, owner="buddy")


@wrong("powers of two, the lowest level first")
class LevelsUpsideDown(Riscv64):
    def table_levels(self):
        return super().table_levels()[::-1]


@wrong("a pte table spans 1M, and pmd_shift says 21")
class PteTableOfAnotherSpan(Riscv64):
    def table_levels(self):
        return TableLevel("pte", 1 << 20), *super().table_levels()[1:]


@wrong("powers of two, the smallest first")
class OddLeafSizes(Riscv64):
    def leaf_sizes(self):
        return 4096, 3 << 20


@wrong("leaf_sizes() has 4K, 2M")
class GiganticLeavesThatTheCpuLacks(X86):
    def leaf_sizes(self):
        return 4096, PMD


# --- errnos ---


class Errno(Riscv64):
    errno = "EPERM"

    def arch_add_memory(self, mm, nid, start, size, altmap):
        try:
            super().arch_add_memory(mm, nid, start, size, altmap)
        except OutOfMemory as error:
            raise KernelError("it did not work", self.errno) from error


@wrong("add failed with EPERM, which the kernel's function never returns: it has ENOMEM, EEXIST")
class ErrnoOfOthers(Errno):
    pass


@wrong("add failed with 'EWRONG', which is no errno of the kernel")
class NoErrno(Errno):
    errno = "EWRONG"


@wrong("add failed with the errno -12: KernelError takes its name, such as 'ENOMEM'")
class ErrnoAsANumber(Errno):
    errno = -12


@wrong("offline failed with 'NOTIFY_BAD', which is no errno of the kernel")
class VetoWithoutErrno(Riscv64):
    def memory_notify(self, mm, action, start_pfn, nr_pages):
        if action == "MEM_GOING_OFFLINE":
            raise KernelError("no", "NOTIFY_BAD")


@wrong("offline fails on an idle machine: no")
class AlwaysVetoes(Riscv64):
    def memory_notify(self, mm, action, start_pfn, nr_pages):
        if action == "MEM_GOING_OFFLINE":
            raise KernelError("no", "EBUSY")


@wrong("add fails on an idle machine")
class RefusesWhatLiesFar(Riscv64):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        if start >= 1 << 40:
            raise KernelError("too far", "EINVAL")
        super().arch_add_memory(mm, nid, start, size, altmap)


# --- the vmemmap ---


@wrong("vmemmap_free() gave 1 pages fewer back to the altmap")
class AltmapPageLeaked(Riscv64):
    change = 1

    def vmemmap_free(self, mm, start, end, altmap):
        super().vmemmap_free(mm, start, end, altmap)
        if altmap is not None:
            altmap.alloc += self.change


@wrong("vmemmap_free() gave 1 pages more back to the altmap")
class AltmapPageFreedTwice(AltmapPageLeaked):
    change = -1


@wrong("should hold its memmap: vmemmap_populate() took no page from the altmap")
class AltmapIgnored(Riscv64):
    def vmemmap_populate(self, mm, start, end, nid, altmap):
        super().vmemmap_populate(mm, start, end, nid, None)


@wrong("maps struct pages of no valid pfn", page="16K")
class EmptyVmemmapFree(Arm64):
    def vmemmap_free(self, mm, start, end, altmap):
        """Forget it."""


@wrong("which has memory free, lies on node 0: is nid handed on?")
class Node0WhateverWasAsked(Riscv64):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        super().arch_add_memory(mm, 0, start, size, altmap)


@wrong("are not mapped")
class HalfOfTheMemmap(Riscv64):
    def vmemmap_populate(self, mm, start, end, nid, altmap):
        super().vmemmap_populate(mm, start, (start + end) // 2 - PMD // 2, nid, altmap)


@wrong("are memmap and back nothing")
class HalfOfItFreed(Riscv64):
    def vmemmap_free(self, mm, start, end, altmap):
        for a, b, leaf in list(mm.leaves.items(start, end)):
            mm.leaves.delete(a, b)
            free_vmemmap_pages(mm, (a >> 12) + leaf.shift, (b - a >> 12) // 2, leaf.owner, altmap)


@wrong("are memmap and back nothing")
class APageTooMany(Riscv64):
    def vmemmap_populate(self, mm, start, end, nid, altmap):
        super().vmemmap_populate(mm, start, end, nid, altmap)
        vmemmap_alloc_block_buf(mm, 4096, nid, None)


@wrong("are not mapped")
class FreesWhatANeighbourNeeds(S390):
    def vmemmap_free(self, mm, start, end, altmap):
        super().vmemmap_free(mm, start, end, altmap)
        mm.leaves.delete(end, end + (1 << 20))


@wrong("the vmemmap has a leaf of 4M at")
class VmemmapLeafOfAnotherSize(Riscv64):
    def vmemmap_populate(self, mm, start, end, nid, altmap):
        super().vmemmap_populate(mm, start, end, nid, altmap)
        for a, b, leaf in list(mm.leaves.items(start, end)):
            mm.leaves.set(a, b, leaf._replace(size=4 << 20))


@wrong("which is not aligned to it")
class LeafToAnUnalignedPage(Riscv64):
    def vmemmap_populate(self, mm, start, end, nid, altmap):
        vmemmap_alloc_block_buf(mm, 4096, nid, altmap)
        for va in range(start, end, PMD):
            self.vmemmap_tables(mm, va, nid)
            first, *_ = (vmemmap_alloc_block_buf(mm, 4096, nid, altmap) for _ in range(512))
            if first is None:
                raise OutOfMemory("no page")
            set_leaf(mm, va, va + PMD, PMD, first, "altmap" if altmap else "buddy")


@wrong("its altmap gave")
class AltmapPagesNotMapped(Riscv64):
    def vmemmap_populate(self, mm, start, end, nid, altmap):
        super().vmemmap_populate(mm, start, end, nid, altmap)
        if altmap is not None:
            altmap.alloc += 512


@wrong("vmemmap_free raised ZeroDivisionError")
class RaisesWhenItIsRemoved(Riscv64):
    def vmemmap_free(self, mm, start, end, altmap):
        super().vmemmap_free(mm, start, end, altmap)
        return 1 // 0


@wrong("after the add failed")
class LeavesAResourceBehindWhenItFails(Powerpc):
    def vmemmap_populate(self, mm, start, end, nid, altmap):
        try:
            super().vmemmap_populate(mm, start, end, nid, altmap)
        except OutOfMemory:
            mm.resources.add(next(iter(mm.resources))._replace(start=1 << 50, end=(1 << 50) + 4095, name="lost"))
            raise


@wrong("maps struct pages of no valid pfn")
class RemovesASectionTooMany(X86):
    def arch_remove_memory(self, mm, start, size, altmap):
        super().arch_remove_memory(mm, start, size, altmap)
        mm.sections.delete(start + size >> 12, (start + size >> 12) + self.pages_per_section)


@wrong("was removed and is still in the direct map", direct_map="blocks")
class SectionsStay(Arm64):
    def arch_remove_memory(self, mm, start, size, altmap):
        mm.seam.remove_section(mm, start >> 12, self.pages_per_section, altmap)


@wrong("max_pfn is")
class MaxPfnStays(Riscv64):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        before = mm.max_pfn
        super().arch_add_memory(mm, nid, start, size, altmap)
        mm.max_pfn = before


# --- what it says of itself, and how it boots ---


class Boot(Riscv64):
    """Boots with some fields of BootMemory changed."""

    def changed(self, memory):
        raise AssertionError

    def boot_memory(self, options, profile):
        return self.changed(super().boot_memory(options, profile))


@wrong("iomem has no System RAM for the pages")
class IomemEmpty(Boot):
    def changed(self, memory):
        return replace(memory, iomem=())


@wrong("iomem has no System RAM for the pages")
class IomemHalf(Boot):
    def changed(self, memory):
        ((depth, start, end, name),) = memory.iomem
        return replace(memory, iomem=((depth, start, (start + end) // 2, name),))


@wrong("which are not in ram")
class IomemTwice(Boot):
    def changed(self, memory):
        ((depth, start, end, name),) = memory.iomem
        return replace(memory, iomem=((depth, start, 2 * end - start + 1, name),))


@wrong("its zones have")
class ZonesWithoutAllRam(Boot):
    def changed(self, memory):
        (zone,) = memory.zones
        return replace(memory, zones=(replace(zone, present=zone.present - 512),))


@wrong("boot_memory(): node 0 DMA32 has")
class MoreFreeThanManaged(Boot):
    def changed(self, memory):
        (zone,) = memory.zones
        return replace(memory, zones=(replace(zone, managed=zone.managed // 2),))


@wrong("above max_order")
class BlocksOfALargeOrder(Boot):
    def changed(self, memory):
        (zone,) = memory.zones
        return replace(memory, zones=(replace(zone, orders=(*zone.orders, 0)),))


@wrong("which zone_limits puts in DMA32")
class AnotherZone(Boot):
    def changed(self, memory):
        (zone,) = memory.zones
        return replace(memory, zones=(replace(zone, type=ZoneType.NORMAL),))


@wrong("node 9 boots, and possible_nodes has")
class ImpossibleNode(Boot):
    def changed(self, memory):
        return replace(memory, nodes=(0, 9))


@wrong("boot_memory returned list, not a BootMemory")
class BootsWithAList(Boot):
    def changed(self, memory):
        return [memory]


@wrong("is not a power of two of whole sections")
class BlocksOfHalfASection(Boot):
    def changed(self, memory):
        return replace(memory, block_size=64 << 20)


@wrong("it boots differently the second time")
class CountsItsBoots(Boot):
    count = 0

    def changed(self, memory):
        type(self).count += 1
        (zone,) = memory.zones
        return replace(memory, zones=(replace(zone, managed=zone.managed - type(self).count % 2 * 8),))


@wrong("are not mapped")
class NoMemmapAtBoot(Riscv64):
    def boot_mappings(self, mm, memory):
        super().boot_mappings(mm, memory)
        low = self.vmemmap_address(memory.ram[0][0])
        mm.leaves.delete(low, low + PMD)


@wrong("out of the direct map")
class NoDirectMapAtBoot(Riscv64):
    def boot_mappings(self, mm, memory):
        super().boot_mappings(mm, memory)
        low = self.page_offset + (memory.ram[0][0] << 12)
        mm.leaves.delete(low, low + PUD)


@wrong("supports_memmap_on_memory() returned 3: None, or the reason against it in words")
class RefusesWithANumber(Riscv64):
    def supports_memmap_on_memory(self, vmemmap_size, profile):
        return 3


@wrong("supports_memmap_on_memory() returned ''")
class RefusesWithoutAWord(Riscv64):
    def supports_memmap_on_memory(self, vmemmap_size, profile):
        return ""


@wrong("has_memmap_on_memory() returned None: True or False")
class DoesNotSayWhether(Riscv64):
    def has_memmap_on_memory(self, profile):
        return None


@wrong("is not inside of 2^56 bytes")
class MapsMoreThanThereIs(Riscv64):
    def mhp_range(self):
        return 0, 1 << 56


@wrong("configure returned NoneType, not a Arch")
class ConfiguresNothing(Riscv64):
    def configure(self, options, profile):
        return None


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in ARCHES]
)
def test_a_mutant_is_caught_and_the_mistake_is_named(name, monkeypatch):
    kind, says, chosen = ARCHES[name]
    monkeypatch.setattr(trial, "TRIED", ("v6.12",))
    report = arch_conformance(few(kind(), **chosen), policies=[Buddy(), MemmapOnMemory()], examples=0)
    assert says in str(report)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Riscv64, Arm64, X86, S390, Powerpc])
def test_what_is_mutated_conforms(kind, monkeypatch):
    monkeypatch.setattr(trial, "TRIED", ("v6.12",))
    arch_conformance(kind(), policies=[Buddy(), MemmapOnMemory()], examples=0).assert_ok()


# --- policies ---


class Policy:
    name, summary, parameter = "mutant", "is wrong", "mutant"

    def place_memmap(self, request):
        if not request.offered or not request.config or request.arch_refusal:
            return Placement(refusal="it cannot be")
        return Placement(reserve_pages=align_up(request.memmap_pages, request.pageblock_nr_pages))


@wrong_policy("the architecture refuses (request.arch_refusal)")
class IgnoresTheArchitecture(Policy):
    def place_memmap(self, request):
        return super().place_memmap(replace(request, arch_refusal=None))


@wrong_policy("this kernel is built without CONFIG_MHP_MEMMAP_ON_MEMORY (request.config)")
class IgnoresTheConfiguration(Policy):
    def place_memmap(self, request):
        return super().place_memmap(replace(request, config=True))


@wrong_policy("name is 'buddy', which is taken: memshell_plugins.memmap_policies has a policy of that name")
class HasATakenName(Policy):
    name = "buddy"


@wrong_policy("parameter is 'force', which is that of the policy memmap_on_memory_force")
class HasATakenParameter(Policy):
    parameter = "force"


@wrong_policy("name is 'v6.1', which is a kernel's")
class HasTheNameOfAKernel(Policy):
    name = "v6.1"


@wrong_policy("name is 'rfc-2018', which is a kernel's")
class HasTheNameOfASeries(Policy):
    name = "rfc-2018"


@wrong_policy("name has to be a text (what `policy NAME` takes), it is ''")
class HasNoName(Policy):
    name = ""


@wrong_policy("name has to be a text (what `policy NAME` takes), it is 3")
class HasANumberForAName(Policy):
    name = 3


@wrong_policy("place_memmap raised IndexError")
class FailsOnHighNodes(Policy):
    def place_memmap(self, request):
        return [Placement(), Placement()][request.nid]


@wrong_policy("place_memmap() calls time.time(): the answer has to follow from the request alone")
class LooksAtTheClock(Policy):
    def place_memmap(self, request):
        return Placement(refusal="at noon" if time.time() % 86400 == 43200 else "")


@wrong_policy("place_memmap() calls datetime.now()")
class LooksAtTheDate(Policy):
    def place_memmap(self, request):
        return Placement(refusal="on New Year" if dt.datetime.now(dt.UTC).month == 13 else "")


@wrong_policy("place_memmap() calls")
class ThrowsDice(Policy):
    def place_memmap(self, request):
        return Placement(refusal="chance" if random.random() > 2 else "")


@wrong_policy("place_memmap() calls")
class ReadsTheEnvironment(Policy):
    def place_memmap(self, request):
        return Placement(refusal=os.environ.get("NOBODY_SETS_THIS", ""))


@wrong_policy("place_memmap() calls io.open()")
class ReadsAFile(Policy):
    def place_memmap(self, request):
        with Path(os.devnull).open() as file:
            return Placement(refusal=file.read())


@wrong_policy("reserve_pages is 32768")
class KeepsTheWholeBlock(Policy):
    def place_memmap(self, request):
        return Placement(reserve_pages=request.block_size // request.page_size)


@wrong_policy("refusal is a text and from_range a bool, not None")
class RefusesWithNone(Policy):
    def place_memmap(self, request):
        return Placement(refusal=None)


@wrong_policy("cannot take the memmap of a whole add from the range")
class WantsTheRange(Policy):
    def place_memmap(self, request):
        return Placement(from_range=True)


@wrong_policy("place_memmap raised ZeroDivisionError")
class DividesByWhatIsFree(Policy):
    def place_memmap(self, request):
        return Placement(refusal=str(request.memmap_pages // sum(pages for _, pages in request.free_kernel_pages)))


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_a_wrong_policy_is_caught_and_the_mistake_is_named(name, monkeypatch):
    kind, says = POLICIES[name]
    monkeypatch.setattr(trial, "TRIED", ("v6.12",))
    arches = None if "Taken" in name else [few(X86())]
    assert says in str(policy_conformance(kind(), arches=arches, examples=0))


def test_the_policy_that_is_mutated_conforms(monkeypatch):
    monkeypatch.setattr(trial, "TRIED", ("v6.12",))
    policy_conformance(Policy(), arches=[few(X86())], examples=0).assert_ok()


def test_there_are_enough_of_them():
    """22 variants got through the kit once; it is held to those and many more."""
    assert len(ARCHES) + len(POLICIES) >= 22 + 40
