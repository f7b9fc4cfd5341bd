"""Memory goes as it came: by the caller that added it."""

import pytest

from memshell.__main__ import main


def run(capsys, commands):
    code = main(["-c", commands])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("commands", "ends"),
    [
        ("use x86_64; add 0x100000000 1G; eject 0x100000000", "removed 1G: memory32-39\n"),
        ("use x86_64 profile=v6.1; add 0x100000000 1G; add 0x140000000 1G; eject 33", "removed 1G: memory32-39\n"),
        ("use x86_64; add 0x100000000 1G via=driver; online all; eject 33", "lost their direct map with it\n"),
        (
            "use x86_64; add 0x100000000 1G via=module; eject 0x108000000 256M",
            "memory32, memory35-39 lost their direct map with it\n",
        ),
        ("use x86_64; add 0x100000000 256M; remove 32", "removed 128M: memory32\n"),
        ("use x86_64; add 0x100000000 1G; remove 32-39; eject 0x100000000", None),
        ("use x86_64; add 0x100000000 1G; remove 32-39 via=module; eject 0x100000000", "to remove\n"),
        ("use powerpc; add 1G via=dlpar; eject 8-9", "removed 512M: memory8-9\n"),
        ("use x86_64; add 0x100000000 1G via=kmem; remove 32", "removed 1G: memory32-39\n"),
    ],
)
def test_who_added_it_takes_it_away(commands, ends, capsys):
    code, out, err = run(capsys, commands)
    if ends is None:
        assert code == 2
        assert "there is no block memory32" in err
    else:
        assert (code, err) == (0, "")
        assert out.endswith(ends)


def test_a_dimm_that_could_not_be_added_is_plugged_and_can_be_ejected(capsys):
    failed = "use x86_64; fault device_register; ! add 0x100000000 1G"
    code, out, _ = run(capsys, f"{failed}; add 0x140000000 128M; lsmem")
    assert code == 0
    assert "0x0000000100000000-0x0000000147ffffff" in out, "the next plug tries it again (v6.12)"
    code, out, _ = run(capsys, f"{failed}; eject 0x100000000; add 0x140000000 128M; lsmem")
    assert code == 0
    assert "0x0000000140000000-0x0000000147ffffff" in out


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("add 1G via=module flags=memmap", "'memmap' is no flag of add_memory(); merge_resource, memmap_on_memory"),
        ("add 1G via=virtio-mem", "via=virtio-mem never adds memory; the virtio-mem driver"),
        ("remove 0 via=probe", "via=probe never removes memory"),
        ("eject 0", "memory0 is on no DIMM"),
        ("write memory0/states online", "'memory0/states' is no file that can be written; did you mean memory0/state?"),
        ("hold kernl=0x1000", "'kernl=0x1000' says nobody's pages; did you mean kernel?"),
        ("hold kernel=x", "'x' is no page frame number"),
        ("hold kernel=9-3", "'9-3' ends before it begins"),
        ("hold kernel=0x1000000", "pfn 0x1000000 is not online"),
        ("hold user=1", "pfn 0x1 is reserved: nobody else can have it"),
    ],
)
def test_what_cannot_be_is_one_line(words, error, capsys):
    code, _, err = run(capsys, f"use x86_64 ram=2G; {words}")
    assert code in (1, 2)
    assert error in err
    assert err.count("\n") == 1


def test_a_page_of_the_kernel_keeps_a_block_from_going_offline(capsys):
    held = "use x86_64; add 0x100000000 256M; online 32-33; hold kernel=0x108001"
    code, out, _ = run(
        capsys, f"{held}; offline 32; ! offline 33; expect error == EBUSY; hold free=0x108001; offline 33"
    )
    assert code == 0
    assert out.endswith("memory33 offline: 128M\n")
    assert run(capsys, f"{held}; hold free=0x108001; check; expect zone.Normal.free == 256M")[0] == 0


def test_a_memmap_gives_way_to_what_is_there(capsys):
    """A program is said to sit where the model has put the memmap of the second block."""
    script = "use x86_64 ram=2G; add 0x100000000 128M; online 32; add 0x108000000 128M; "
    assert run(capsys, script + "hold user=0x100000-0x1003ff; check")[0] == 0


def test_pages_that_a_driver_holds_offline_are_not_managed(capsys):
    script = "use x86_64; add 0x100000000 128M; online 32; hold offline=0x100200-0x1003ff; check"
    assert run(capsys, f"{script}; expect zone.Normal.managed == 126M; offline 32; check")[0] == 0
