"""lsmem and chmem: byte for byte what util-linux 2.38 prints, with its options in all their forms."""

import shutil
import subprocess

import pytest

from memshell.errors import KernelError
from memshell.scenario.player import StepFailed

STEPS = "use x86_64 ram=2G nodes=2; add 1G node=1; online 32-35 movable; online 36"
FORMS = """
-a
-b
-n
-J
-P
-r
-o RANGE,SIZE
-o +ZONES
-o+ZONES
-o zones,size
-o size,size
-o node,removable
-Po node,removable,block
--output=STATE
--output-all
-S STATE
-S none
-Snode,zones
-S STATE,BLOCK
-S none -o RANGE,STATE,NODE,REMOVABLE,ZONES,BLOCK,SIZE
--split REMOVABLE --output-all
--summary
--summary=never
--summary=always
--summary=only -b
-n --summary=only
-J --summary=always
-P --summary=always
-r --summary=always
-rb
-rn
-Pbn
-bP
-nb -oSIZE
-bo SIZE
-ro RANGE,ZONES,REMOVABLE
-Jb
-Jao block,state,zones,node
-nabo +NODE --summary=never
--json --output-all
--pairs --bytes --output RANGE,SIZE
--raw --noheadings --all
-b -n -o RANGE,SIZE,STATE
"""


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """A session, and the tree of its machine that the real lsmem reads."""
    from memshell.scenario.suite import shared_plugins
    from memshell.scenario.transcript import Session

    session = Session(shared_plugins)
    for step in STEPS.split("; "):
        session.type(step)
    root = tmp_path_factory.mktemp("lsmem") / "root"
    session.type(f"export sysroot {root}")
    return session, root


@pytest.mark.skipif(shutil.which("lsmem") is None, reason="util-linux is not installed")
@pytest.mark.parametrize("options", FORMS.split("\n")[1:])
def test_lsmem_prints_what_lsmem_prints(machines, options):
    session, root = machines
    command = ["lsmem", "--sysroot", root, *options.split()]
    real = subprocess.run(command, capture_output=True, text=True, check=True, env={"LC_ALL": "C"})
    assert session.type(f"lsmem {options}") == real.stdout.splitlines()


@pytest.mark.parametrize(
    "options, said",
    [
        ("-JP", "mutually exclusive arguments: --json --pairs --raw"),
        ("-r --summary=only", "--{raw,json,pairs} and --summary=only are mutually exclusive"),
        ("-a -S NODE", "mutually exclusive arguments: --split --all"),
        ("-S FOO", "unknown column 'FOO'"),
        ("-o FOO", "unknown column 'FOO'"),
        ("-x", "unexpected '-x'"),
        ("--summary=now", "'now' is no summary"),
        ("--sumary", "did you mean --summary?"),
        ("-s /", "memshell capture --root / -o FILE"),
        ("-o", "expected one argument"),
    ],
)
def test_lsmem_refuses_in_one_line(prompt, options, said):
    message = prompt.fails(f"lsmem {options}")
    assert said in message
    assert "\n" not in message


def test_lsmem_takes_the_forms_of_all_results_too(prompt):
    assert prompt("lsmem -F csv").splitlines()[0] == "RANGE,SIZE,STATE,REMOVABLE,BLOCK"
    assert prompt.json("lsmem -b")["memory"][0]["size"] == 2 << 30
    assert "lsmem of memshell" in prompt("lsmem -V")


NAMES = {
    number: f"Memory Block {number} (0x{number << 27:016x}-0x{((number + 1) << 27) - 1:016x})" for number in range(64)
}

# What chmem of util-linux 2.38.1 did and printed, in a root of its own with the tree of the same machine.
CHMEM = [
    ("-e 256M", "", "37 38"),
    ("-ve 256", f"{NAMES[37]} enabled\n{NAMES[38]} enabled\n", "37 38"),
    ("-v -e -b 37-38", f"{NAMES[37]} enabled\n{NAMES[38]} enabled\n", "37 38"),
    ("-e -b 37", "", "37"),
    ("--enable --zone=Movable --block 38", "", "38"),
    ("-v -e 0x128000000-0x12fffffff -z Movable", f"{NAMES[37]} enabled\n", "37"),
    ("-v -e -z movable 128M", f"{NAMES[37]} enabled\n", "37"),
    ("-e 128m", "", "37"),
    ("-vd 256", f"{NAMES[36]} disabled\n{NAMES[35]} disabled\n", "-35 -36"),
    ("-vd 0x100000000-0x10fffffff", f"{NAMES[32]} disabled\n{NAMES[33]} disabled\n", "-32 -33"),
    ("-ve -b 32-33", f"{NAMES[32]} already enabled\n{NAMES[33]} already enabled\n", ""),
    ("-vd -b 37", f"{NAMES[37]} already disabled\n", ""),
    ("-e 0", "", ""),
]
REFUSED = [
    ("-e 100M", 2, "chmem: Size must be aligned to memory block size (128M)"),
    ("-e 128MB", 2, "chmem: Size must be aligned to memory block size (128M)"),
    (
        "-e 0x128000000-0x12ffffff0",
        2,
        "chmem: Start address and (end address + 1) must be aligned to memory block size",
    ),
    ("-e", 2, "chmem: bad usage"),
    ("128M", 2, "chmem: bad usage"),
    ("-e -d 128M", 2, "chmem: mutually exclusive arguments: --disable --enable"),
    ("-e -z foo 128M", 2, "chmem: unknown memory zone: foo"),
    ("-e foo", 2, "chmem: Failed to parse size: 'foo'"),
    ("-d -b 5-3", 2, "chmem: Invalid range: 5-3"),
    ("-e -b 0x10", 2, "chmem: Failed to parse block number: '0x10'"),
    ("-e 37-38", 2, "chmem: Invalid start address format: 37; -b takes block numbers: chmem -e -b 37-38"),
    ("-e 1G", 1, "chmem: Could only enable 384M of memory"),
    ("-e -z DMA 128M", 1, "chmem: Could only enable 0B of memory"),
    ("-e -b 99", 1, "chmem: there is no block in 99"),
    ("-e -b 30-38", 1, "chmem: memory30-31 are not there"),
    ("-e -z DMA32 -b 37", 1, f"chmem: {NAMES[37]} enable failed: Zone mismatch"),
]


def states(prompt):
    return {number for number in range(32, 40) if prompt.mm.blocks[number].state == "online"}


@pytest.mark.parametrize("options, said, changed", CHMEM)
def test_chmem_does_and_prints_what_chmem_does(prompt, options, said, changed):
    prompt(STEPS)
    before = states(prompt)
    assert prompt(f"chmem {options}") == said
    changes = {int(word) for word in changed.split()}
    wanted = before | {number for number in changes if number > 0}
    assert states(prompt) == wanted - {-number for number in changes if number < 0}


def test_chmem_onlines_to_the_zone_that_chmem_chooses(prompt):
    prompt(STEPS)
    prompt("chmem -e 128M; chmem -e -z Normal 128M")
    assert [prompt.mm.blocks[number].zone.label for number in (37, 38)] == ["Movable", "Normal"]


@pytest.mark.parametrize("options, code, said", REFUSED)
def test_chmem_refuses_and_says_how_far_it_came(prompt, options, code, said):
    prompt(STEPS)
    with pytest.raises(StepFailed) as failed:
        prompt(f"chmem {options}")
    assert said in str(failed.value)
    assert failed.value.exit_code == code


def test_chmem_keeps_what_it_did_before_it_failed(prompt):
    prompt(STEPS)
    prompt.fails("chmem -e 1G")
    assert states(prompt) == set(range(32, 40))


def test_chmem_tells_the_kernels_error_and_goes_on(prompt):
    prompt(STEPS)
    prompt("alloc 4M unmovable at=0x120000000")
    with pytest.raises(StepFailed) as failed:
        prompt("chmem -d -b 35-36")
    assert f"chmem: {NAMES[36]} disable failed: Device or resource busy (EBUSY" in str(failed.value)
    assert isinstance(failed.value.cause, KernelError)
    assert states(prompt) == {32, 33, 34, 36}
    assert prompt("chmem -vd 256M") == (  # the next one is taken where one fails
        f"{NAMES[36]} disable failed\n{NAMES[34]} disabled\n{NAMES[33]} disabled\n"
    )
