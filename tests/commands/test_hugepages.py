"""hugepages and alloc huge=: pools at boot and at run time, and what offline makes of their pages."""

import pytest

from memshell.mm.hugetlb.pool import counts
from memshell.mm.invariants import violations

M2, G1 = 9, 18


def test_pools_at_boot(prompt):
    prompt("use x86_64 ram=4G hugepages=200 hugepagesz=2M")
    assert counts(prompt.mm, M2) == {0: (200, 200)}
    assert prompt.json("meminfo")["HugePages_Total"] == 200
    prompt("use x86_64 ram=4G hugepages=0:1 default_hugepagesz=1G")
    assert counts(prompt.mm, G1) == {0: (1, 1)}
    assert prompt.mm.hugetlb.get((6 << 18) - 1) == G1  # the last GiB of the memory: RAM above 4G goes up to 6G
    assert violations(prompt.mm) == []
    prompt("use powerpc mmu=hash hugepages=3")
    assert counts(prompt.mm, 8) == {0: (3, 3)}


@pytest.mark.parametrize(
    "words, says",
    [
        ("hugepages=5 hugepagesz=3M", "hugepagesz=3M cannot be; huge pages here: 2M, 1G"),
        ("hugepagesz=2M", "hugepagesz=2M alone does nothing"),
        ("hugepages=1:3", "there is no node 1"),
        ("hugepages=1,2", "a number, or node:number"),
        ("default_hugepagesz=x", "'x' is not a size"),
        ("movable_gigantic_pages=1", "the kernel v6.12 has no movable_gigantic_pages"),
    ],
)
def test_what_cannot_be_on_the_command_line(prompt, words, says):
    assert says in prompt.fails(f"use x86_64 {words}")


def test_what_cannot_be_at_run_time(prompt):
    assert "is not of the form SIZE=N" in prompt.fails("hugepages 200")
    assert "huge pages here: 2M, 1G" in prompt.fails("hugepages 4M=1")
    assert "there is no node 7" in prompt.fails("hugepages 2M=1 node=7")
    assert "hugepages is read at boot only" in prompt.fails("set hugepages=3")
    assert "not whole huge pages of 2M" in prompt.fails("alloc 3M huge=2M")
    assert "a program's" in prompt.fails("alloc 2M unmovable huge=2M")
    assert "ENOMEM from mm/hugetlb.c:hugetlb_acct_memory" in prompt.fails("alloc 2M huge=2M")
    assert "larger pages are huge pages" in prompt.fails("alloc 1G order=18")


def test_a_pool_is_shared_by_the_nodes_with_memory_or_of_one(prompt):
    prompt("use x86_64 ram=2G nodes=2; add 1G node=1; online offline kernel; hugepages 2M=100")
    assert counts(prompt.mm, M2) == {0: (50, 50), 1: (50, 50)}
    prompt("hugepages 2M=80 node=1")
    assert counts(prompt.mm, M2) == {0: (50, 50), 1: (80, 80)}
    prompt("alloc 100M huge=2M node=1; hugepages 2M=0")
    assert counts(prompt.mm, M2) == {1: (50, 0)}
    assert "50 surplus" in prompt("hugepages 2M=0")
    prompt("migrate 1 node=0")
    assert counts(prompt.mm, M2) == {0: (50, 0)}
    assert prompt.mm.hstates[M2].surplus == ((0, 50),)
    prompt("free 1")
    assert counts(prompt.mm, M2) == {}
    assert violations(prompt.mm) == []


def test_a_pool_that_cannot_grow_keeps_what_it_got(prompt):
    said = prompt("hugepages 2M=100000")
    assert "could not be had" in said
    prompt("hugepages 2M=0")
    assert violations(prompt.mm) == []


def test_gigantic_pages_are_of_kernel_zones_and_move_what_is_in_their_way(prompt):
    prompt("add 0x100000000 2G; online 32-39 movable; online 40-47 kernel; hugepages 1G=1")
    assert {run[0] for run in prompt.mm.hugetlb.items()} == {0x140000}
    prompt("hugepages 1G=0; offline 40-47; online 40-47 kernel; alloc 1M unmovable at=0x150000000; hugepages 1G=1")
    assert not prompt.mm.hugetlb  # nothing unmovable moves
    assert violations(prompt.mm) == []


def test_pinned_huge_pages_stay(prompt):
    prompt("add 1G; online offline movable; hugepages 2M=4; alloc 8M huge=2M; pin 1")
    number = next(iter(prompt.mm.hugetlb.items()))[0] // prompt.mm.block_pages
    assert "EINTR" in prompt.fails(f"offline {number}")
    prompt(f"unpin 1; offline {number}")
    assert violations(prompt.mm) == []


def test_what_an_architecture_cannot_migrate_keeps_its_block_online(prompt):
    """s390 does not select ARCH_ENABLE_HUGEPAGE_MIGRATION: has_unmovable_pages() stops at any huge page."""
    prompt("use s390 ram=2G standby=1G; online offline kernel; hugepages 1M=4")
    number = next(iter(prompt.mm.hugetlb.items()))[0] // prompt.mm.block_pages
    assert "is unmovable (hugetlb)" in prompt.fails(f"offline {number}")


def test_virtio_mem_replaces_free_pages_of_a_pool(prompt):
    """mm/hugetlb.c:isolate_or_dissolve_huge_folio: the pool keeps its size, and gigantic pages are in the way."""
    prompt("use x86_64 ram=2G auto_online=online_movable; virtio-mem 1G; hugepages 2M=8; alloc 8M huge=2M")
    assert next(iter(prompt.mm.hugetlb.items()))[0] == 1 << 20
    prompt("virtio-mem 0")
    assert counts(prompt.mm, M2) == {0: (8, 4)}
    assert next(iter(prompt.mm.hugetlb.items()))[0] < 1 << 20
    assert violations(prompt.mm) == []


def test_what_is_in_a_pool_can_be_said(prompt):
    """Recording x86_64-k73-X12-N-gigantic-movable: a free gigantic page in ZONE_MOVABLE is dissolved by the offline."""
    prompt("use x86_64 ram=2G profile=v7.3; add 2G; online 32-47 movable; hold huge:1G=0x100000-0x13ffff")
    assert counts(prompt.mm, G1) == {0: (1, 1)}
    prompt("offline 44; hold huge_user:2M=0x140000-0x1403ff")
    assert counts(prompt.mm, M2) == {0: (2, 0)}
    prompt("offline 35")
    assert counts(prompt.mm, G1) == {}
    prompt("hold free=0x140000-0x1403ff")
    assert counts(prompt.mm, M2) == {}
    assert violations(prompt.mm) == []


@pytest.mark.parametrize(
    "words, says",
    [
        ("hold huge:2M=0x100001-0x100003", "are not whole huge pages; one has 0x200 pages"),
        ("hold huge:3M=0x100000-0x1001ff", "huge=3M cannot be; huge pages here: 2M, 1G"),
        ("hold hug:2M=0x100000-0x1001ff", "says nobody's pages; did you mean huge:2M?"),
        ("hold huge=0x100000", "says nobody's pages"),
    ],
)
def test_what_is_no_huge_page_cannot_be_held(prompt, words, says):
    prompt("use x86_64 ram=2G; add 1G; online all movable")
    assert says in prompt.fails(words)
