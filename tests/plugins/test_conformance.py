"""The conformance kit: it passes what is right and says in words what is wrong with what is not."""

import builtins
import dataclasses

import pytest
from memshell_plugins.memmap_policies import Buddy, MemmapOnMemory
from memshell_plugins.x86_64 import X86

from memshell import Placement, add_pages, ensure_table, remove_pages, set_leaf, vmemmap_populate_hugepages
from memshell.errors import UsageError
from memshell.mm.page import Owner
from memshell.plugins import load_plugins
from memshell.testing import arch_conformance, policy_conformance

INSTALLED = load_plugins()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x86_64", "powerpc", "s390", "arm64"])
def test_the_architectures_of_memshell_conform(name):
    arch_conformance(INSTALLED.arches()[name], examples=2).assert_ok()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["buddy", "memmap_on_memory", "memmap_on_memory_force", "memmap_from_range"])
def test_the_policies_of_memshell_conform(name):
    policy_conformance(INSTALLED.policies()[name], examples=2).assert_ok()


# --- policies that are wrong ---


class Policy:
    name, summary, parameter = "wrong", "is wrong", "wrong"

    def place_memmap(self, request):
        return Placement()


class TooSmall(Policy):
    def place_memmap(self, request):
        return Placement(reserve_pages=request.memmap_pages - 1)


class TooBig(Policy):
    def place_memmap(self, request):
        return Placement(reserve_pages=request.block_size // request.page_size)


class NoPageblock(Policy):
    def place_memmap(self, request):
        return Placement(reserve_pages=request.memmap_pages + 1)


class UnknownNode(Policy):
    def place_memmap(self, request):
        return Placement(nodes=(7,))


class SameNodeTwice(Policy):
    def place_memmap(self, request):
        return Placement(nodes=(0, 0))


class Raises(Policy):
    def place_memmap(self, request):
        raise ValueError(f"no room on node {request.nid}")


class RaisesWhenNothingIsFree(Policy):
    def place_memmap(self, request):
        return Placement(nodes=(max((n, nid) for nid, n in request.free_pages if n)[1],))


class Mutates(Policy):
    def place_memmap(self, request):
        object.__setattr__(request, "size", 0)
        return Placement()


class ReturnsNothing(Policy):
    def place_memmap(self, request):
        return None


class ReturnsAList(Policy):
    def place_memmap(self, request):
        return Placement(nodes=[0])


class ChangesItsMind(Policy):
    count = 0

    def place_memmap(self, request):
        self.count += 1
        return Placement(refusal=f"the {self.count}th time")


class Contradicts(Policy):
    def place_memmap(self, request):
        pages = request.pageblock_nr_pages
        return Placement(reserve_pages=-(-request.memmap_pages // pages) * pages, refusal="no")


class TwoWords(Policy):
    name = "two words"


class NoMethod:
    name, summary, parameter = "wrong", "is wrong", "wrong"


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy, says",
    [
        (TooSmall, "reserve_pages is 511; a block of 32768 pages needs 512 for its memmap"),
        (TooBig, "reserve_pages is 32768; a block of 32768 pages needs 512 for its memmap"),
        (NoPageblock, "reserve_pages is 513, no multiple of the pageblock (512 pages)"),
        (UnknownNode, "there is no node 7"),
        (SameNodeTwice, "nodes names a node twice: (0, 0)"),
        (Raises, "place_memmap raised ValueError: no room on node 0"),
        (RaisesWhenNothingIsFree, "place_memmap raised ValueError: max()"),
        (Mutates, "it changed the request that it was given"),
        (ReturnsNothing, "place_memmap: it returned NoneType, not a Placement"),
        (ReturnsAList, "reserve_pages is a number and nodes a tuple, not 0 and [0]"),
        (ChangesItsMind, "the same question got two answers"),
        (Contradicts, "pages and says why it does not: no"),
        (TwoWords, "name has to be one word (what `policy NAME` takes), it is 'two words'"),
        (NoMethod, "there is no method place_memmap(request)"),
    ],
)
def test_a_wrong_policy_is_caught_and_told_in_words(policy, says):
    report = policy_conformance(policy(), arches=[X86()], examples=0)
    assert says in str(report)
    with pytest.raises(AssertionError, match="does not conform"):
        report.assert_ok()


def test_the_report_says_where_it_happened_in_commands_that_can_be_typed():
    report = policy_conformance(Raises(), arches=[X86()], examples=0)
    assert "asked about 128M on node 0, blocks of 128M, offered=True" in str(report)
    assert "use x86_64 profile=v5.10; policy wrong" in str(report)


# --- architectures that are wrong ---


class NoDirectMap(X86):
    def arch_add_memory(self, mm, nid, start, size, altmap):
        add_pages(mm, nid, start >> 12, size >> 12, altmap)


class DirectMapStays(X86):
    def arch_remove_memory(self, mm, start, size, altmap):
        remove_pages(mm, start >> 12, size >> 12, altmap)


class NoTable(X86):
    def vmemmap_populate(self, mm, start, end, nid, altmap):
        vmemmap_populate_hugepages(mm, start, end, nid, altmap)
        mm.tables.pop(("pmd", start - start % (1 << 30)), None)


class MemmapStays(X86):
    def vmemmap_free(self, mm, start, end, altmap):
        mm.leaves.delete(start, end)


class LeafStays(X86):
    def vmemmap_free(self, mm, start, end, altmap):
        """Forget it."""


class ForgetsTheAltmap(X86):
    def vmemmap_free(self, mm, start, end, altmap):
        super().vmemmap_free(mm, start, end, None)


class AnyPage(X86):
    def vmemmap_populate(self, mm, start, end, nid, altmap):
        self.vmemmap_tables(mm, start, nid)
        set_leaf(mm, start, end, 2 << 20, 0x8000, "buddy")


class TableLeaks(X86):
    def arch_remove_memory(self, mm, start, size, altmap):
        super().arch_remove_memory(mm, start, size, altmap)
        ensure_table(mm, "pmd", (len(mm.tables) + 1) << 40, 1 << 30, 0)


class Raising(X86):
    def vmemmap_populate(self, mm, start, end, nid, altmap):
        raise KeyError("vmemmap")


class BootsWithoutDirectMap(X86):
    def boot_mappings(self, mm, memory):
        super().boot_mappings(mm, memory)
        for start, end, leaf in list(mm.leaves.items()):
            if leaf.owner == "ram":
                mm.leaves.delete(start, end)


class NeverAdds(X86):
    def mhp_range(self):
        return 0, 1 << 30


class NoArch:
    name = "x86_65"


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch, says",
    [
        (NoDirectMap(), "memory32 is not in the direct map"),
        (DirectMapStays(), "memory32 was removed and is still in the direct map"),
        (NoTable(), "hangs in no page table: no pmd table at 0x"),
        (MemmapStays(), "are memmap and back nothing"),
        (LeafStays(), "maps struct pages of no valid pfn"),
        (ForgetsTheAltmap(), "the memmap in the block is freed to the buddy"),
        (AnyPage(), "hold the memmap at 0x"),
        (TableLeaks(), "stands, and nothing hangs in it: it was not needed, or not freed"),
        (Raising(), "vmemmap_populate raised KeyError: 'vmemmap'"),
        (BootsWithoutDirectMap(), "boot_mappings() left the pages 0x1-0x9f out of the direct map"),
        (NeverAdds(), "add fails on an idle machine: 0x100000000-0x107ffffff is outside of 0x0-0x40000000"),
        (dataclasses.replace(X86(), max_order=16), "max_order 16 makes blocks larger than a section of 2^27"),
        (dataclasses.replace(X86(), pageblock_order=11), "pageblock_order 11 is above max_order 10"),
        (dataclasses.replace(X86(), options=()), "there is no option ram"),
        (dataclasses.replace(X86(), vmemmap_base=0xFFFF888000000000), "lies in the direct map"),
        (NoArch(), "it is a NoArch, not a memshell.Arch"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value[:20],
)
def test_a_wrong_architecture_is_caught_and_told_in_words(arch, says):
    report = arch_conformance(arch, policies=[Buddy(), MemmapOnMemory()], examples=0)
    assert says in str(report)


class LosesWithUsers(X86):
    """Only a machine on which programs run shows it."""

    def vmemmap_populate(self, mm, start, end, nid, altmap):
        if altmap is None and any(page.owner is Owner.USER for _, _, page in mm.pages.items()):
            return
        super().vmemmap_populate(mm, start, end, nid, altmap)


@pytest.mark.slow
def test_the_random_user_finds_what_no_order_shows_and_gives_the_fewest_steps():
    arch = LosesWithUsers()
    arch_conformance(arch, policies=[Buddy()], examples=0).assert_ok()
    report = arch_conformance(arch, policies=[Buddy()], examples=30)
    (fault,) = report.faults
    assert "are not mapped" in fault.what
    assert fault.where.startswith("use x86_64 profile=v6.1; policy buddy; alloc ")
    assert len(fault.where.split("; ")) == 4


@pytest.mark.slow
def test_the_random_user_draws_the_same_each_time():
    first, second = (arch_conformance(LosesWithUsers(), policies=[Buddy()], examples=20) for _ in range(2))
    assert str(first) == str(second)


def test_without_hypothesis_one_line_says_what_to_install(monkeypatch):
    def without(name, *args, **kwargs):
        if name.startswith("hypothesis"):
            raise ModuleNotFoundError(name)
        return importing(name, *args, **kwargs)

    importing = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"needs hypothesis; pip install 'memshell-mm\[testing\]'"):
        policy_conformance(Buddy(), arches=[X86()], examples=1)


def test_the_fixtures(machine, shell):
    assert machine("x86_64", ram="2G", nodes=2).run("add 1G").startswith("1G at 0x100000000")
    assert shell("use s390 ram=2G; policy memmap_on_memory").startswith("s390, 2G")
