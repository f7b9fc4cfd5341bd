"""What keeps a block from going offline: a row for each that failed, and `why` explains one."""

import pytest

HELD = "add 1G; online all kernel; alloc 400M unmovable; alloc 300M pinned"


def rows_of(text):
    """Return the rows of a table under its header, as lists of words, by block."""
    return {line.split()[0]: line for line in text.splitlines() if line.startswith("memory")}


def test_every_block_that_failed_has_its_row(prompt):
    """400M unmovable lie in memory32-35, 300M pinned in memory35-37: EBUSY and EINTR."""
    prompt(HELD)
    message = prompt.fails("offline 32-39")
    assert message.startswith(
        "memory32: pfn 0x100000 is unmovable (kernel); 2 of 8 blocks are offline, 6 failed: 4 EBUSY, 2 EINTR"
    )
    rows = rows_of(prompt.out.text)
    assert list(rows) == [f"memory{number}" for number in range(32, 38)]
    assert rows["memory32"].startswith("memory32 EBUSY 0x100000 unmovable, alloc 1 free 1 ")
    assert rows["memory35"].startswith("memory35 EBUSY 0x118000 unmovable, alloc 1 free 1; unpin 2 ")
    assert rows["memory36"].startswith("memory36 EINTR 0x120000 pinned, alloc 2    unpin 2 ")


def test_the_rows_are_data_too(prompt):
    prompt(HELD)
    prompt.fails("offline 32-39 -F csv")
    assert "BLOCK,ERRNO,PFN,WHOSE,FREED BY,REASON\nmemory32,EBUSY,0x100000," in prompt.out.text
    prompt("undo")
    out = prompt("! offline 32-39")
    assert out.startswith("failed as it should: memory32: ")
    assert len(rows_of(out)) == 6


def test_what_frees_a_block_does(prompt):
    prompt(HELD)
    prompt.fails("offline 32-39")
    prompt("free 1; unpin 2; offline 32-37")
    assert all(prompt.mm.blocks[number].state == "offline" for number in range(32, 40))


def test_a_failed_step_has_events(prompt):
    prompt(HELD)
    prompt.fails("offline 32-39")
    events = [event for event in prompt.json("events") if event["kind"] == "OfflineFailed"]
    assert [(event["block"], event["errno"]) for event in events] == [
        (32, "EBUSY"), (33, "EBUSY"), (34, "EBUSY"), (35, "EBUSY"), (36, "EINTR"), (37, "EINTR")
    ]  # fmt: skip
    assert events[4]["text"].startswith("memory36: pfn 0x120000 is pinned")
    assert events[0]["function"] == "mm/page_isolation.c:has_unmovable_pages"


@pytest.mark.parametrize(
    "command", ["add 512M node=9", "remove 3", "probe 0 1G", "virtio-mem 1M", "offline 1", "eject 33"]
)
def test_whatever_fails_leaves_an_event(prompt, command):
    prompt("add 1G; online all kernel; alloc 900M unmovable")
    error = prompt.fails(command)
    assert prompt.json("events"), error


def test_an_online_that_fails_has_its_rows(prompt):
    prompt("use x86_64 ram=2G nodes=2; add 1G; fault MEM_GOING_ONLINE")
    assert "; 7 of 8 blocks are online (EPERM" in prompt.fails("online all")
    assert prompt.json("events")[-1]["kind"] == "OnlineFailed"


def test_boot_memory_says_what_is_in_the_way(prompt):
    prompt.fails("offline all")
    rows = rows_of(prompt.out.text)
    assert "spans more than one zone" in rows["memory0"]
    assert "reserved, boot's, until the next one" in rows["memory1"]
    assert "have memory holes" in rows["memory15"]


@pytest.mark.parametrize(
    "typed, number, expected",
    [
        ("", 32, ["unmovable alloc 1 0x100000 32768 128M", "offline 32: EBUSY, ", "`free 1` frees it"]),
        ("", 36, ["pinned alloc 2 0x120000 32768 128M", "offline 36: EINTR, ", "`unpin 2` frees it"]),
        ("", 38, ["memory38 is online in Normal: it can go offline", "free the buddy's"]),
        ("offline 39", 39, ["memory39 is offline: it can go online"]),
        ("hold kernel=0x130010", 38, ["unmovable the kernel's 0x130010 1 4K"]),
        ("hold pagetable=0x130010", 38, ["page table the kernel's 0x130010 1 4K"]),
        ("", 1, ["reserved boot's, until the next one 0x8000"]),
        ("", 15, ["hole no memory ", "EINVAL, pfns 0x78000-0x80000 have memory holes"]),
    ],
)
def test_why_explains_a_block(prompt, typed, number, expected):
    prompt(HELD)
    prompt(typed)
    state = prompt.mm
    text = " ".join(prompt(f"why {number}").split())
    for part in expected:
        assert part in text
    assert prompt.mm is state


def test_the_memmap_of_other_memory_is_named_with_what_takes_it_away(prompt):
    """16G have 256M of memmap, which lie in what was onlined before: memory32 holds that of memory40-103."""
    prompt("use x86_64 ram=512M; add 1G; online all kernel; add 16G")
    text = prompt("why 32")
    assert "memmap of memory40-103 0x100000 32768 128M" in text
    assert "`eject 40-103` frees it" in text
    prompt("eject 40-103; offline 32")


def test_a_block_s_own_memmap_goes_with_it(prompt):
    prompt("policy memmap_on_memory; add 256M; online all movable")
    text = " ".join(prompt("why 32").split())
    assert "memory32 is online in Movable: it can go offline" in text
    assert "memmap this block's own 0x100000 512 2M 1 no" in text
    prompt("offline 32")
    assert "memmap this block's own 0x100000 512 2M 1 no" in " ".join(prompt("why 32").split())


def test_no_room_is_told_with_what_makes_some(prompt):
    prompt("use x86_64 ram=1G; add 1G; online 32-35 movable; alloc 1250M")
    text = prompt("why 32")
    assert "EINTR, no room to migrate pfn " in text
    assert "`online offline kernel` frees it" in text


def test_advice_that_would_not_help_is_not_given(prompt):
    prompt("add 1G; online all kernel; alloc 400M unmovable; hold kernel=0x100010")
    assert "frees it" not in prompt("why 32")
    assert "`free 1` frees it" in prompt("why 33")


def test_why_of_several_and_of_none(prompt):
    assert prompt.fails("why 1 2") == "why explains one block; why 1"
    assert "there is no block memory99" in prompt.fails("why 99")
    assert "no block is so" in prompt.fails("why offline")


def test_online_offline_where_no_block_is_offline(prompt):
    assert prompt("online offline movable") == "nothing to do: no block is offline\n"
    assert "online all movable" in prompt.fails("online movable")
