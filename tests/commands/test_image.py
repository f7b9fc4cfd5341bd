"""A kernel image at the prompt: its types and symbols, and a machine that is sized by it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from memshell.__main__ import main
from memshell.commands.image import Loaded, load
from memshell.repl.complete import ShellCompleter
from memshell.scenario.suite import shared_plugins
from memshell.scenario.transcript import Session

sys.path.append(str(Path(__file__).parents[1] / "vmlinux"))
import vmlinux_build as b
import vmlinux_sample as sample

FIXTURES = Path(os.environ.get("MEMSHELL_FIXTURES") or Path(__file__).parents[3] / "shared" / "fixtures")
needs_fixtures = pytest.mark.skipif(not FIXTURES.is_dir(), reason="no kernel fixtures here")


def run(*args, folder=None, **environment):
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", **environment}
    options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 60}
    command = [sys.executable, "-m", "memshell", *args]
    return subprocess.run(command, **options, check=False, env=env, cwd=folder)


@pytest.fixture
def play(tmp_path, monkeypatch):
    """Play lines in one session, in a folder with the example image; return what the last one shows."""
    monkeypatch.chdir(tmp_path)
    Path("vmlinux").write_bytes(sample.example())
    session = Session(shared_plugins)

    def type_all(*lines):
        return "\n".join([session.type(line) for line in lines][-1])

    type_all.shell = session.player.shell
    return type_all


def write(name, *args, **sizes):
    Path(name).write_bytes(sample.example(*args, **sizes))


# --- looking into an image ---


def test_facts_as_json_are_those_of_the_command_line(play):
    at_prompt = json.loads(play("vmlinux vmlinux -F json"))
    assert at_prompt == json.loads(run("vmlinux", "vmlinux", "--json").stdout)
    assert json.loads(play("vmlinux -F json")) == at_prompt  # the one that is loaded


@pytest.mark.parametrize(
    "command, message",
    [
        ("struct pgae", "vmlinux: no struct pgae in it; did you mean page?"),
        ("struct page.flag", "vmlinux: no member flag in struct page; did you mean flags?"),
        ("struct page.zzz", "vmlinux: no member zzz in struct page; struct page lists them"),
        ("sizeof page zne", "vmlinux: no struct zne in it; did you mean zone?"),
        ("enum pagefalgs", "vmlinux: no enum pagefalgs in it; did you mean pageflags?"),
        ("sym online_page", "vmlinux: no symbol online_page in it; did you mean online_pages?"),
        ("sym unclear", "vmlinux: 2 symbols are named unclear: 0x81005000, 0x81006000"),
        ("struct page zone", "one name at a time, and 'zone' is another"),
        ("struct struct", "struct of which name?"),
    ],
)
def test_what_is_not_there_is_named_with_what_is_near(play, command, message):
    assert play("vmlinux vmlinux", command) == message


@pytest.mark.parametrize("command", ["vmlinux", "struct page", "sizeof page", "enum pageflags", "sym _stext"])
def test_without_an_image_there_is_a_way_to_one(play, command):
    assert play(command) == "no kernel image is loaded; read one with: vmlinux FILE"


def test_names_are_taken_as_c_writes_them(play):
    assert play("vmlinux vmlinux", "sizeof struct page") == "NAME SIZE\npage   64"
    assert "      52      4  _refcount.counter" in play("struct page._refcount")
    assert "compound_head" not in play("struct page._refcount")


def test_forms_for_programs(play):
    play("vmlinux vmlinux")
    found = json.loads(play("struct page.lru -F json"))
    assert (found["size"], found["members"]) == (64, {"lru": {"offset": 8, "size": 16}})
    assert json.loads(play("sizeof page.lru -F json")) == [{"name": "page.lru", "size": 16, "how": "BTF"}]
    assert json.loads(play("enum pageflags -F json"))["values"]["PG_reserved"] == 13
    assert json.loads(play("sym online_pages -F json"))[0]["address"] == 0x81002000
    assert play("struct mem_section -F csv").splitlines()[0] == "OFFSET,SIZE,NAME"


def test_a_file_that_cannot_be_read_leaves_the_loaded_one(play):
    Path("text").write_text("hello\n")
    assert play("vmlinux vmlinux", "vmlinux text").startswith("text: not a kernel image")
    assert play("use x86_64 vmlinux=text").startswith("text: not a kernel image")
    assert play("sizeof page").endswith("64")


# --- completion ---


def offered(shell, text):
    before, space, word = text.rpartition(" ")
    return dict(ShellCompleter(shell).items(before + space, word))


@pytest.mark.parametrize(
    "text, item",
    [
        ("struct mem_", "mem_section_usage"),
        ("sizeof page zo", "zone"),
        ("struct page._ref", "page._refcount.counter"),
        ("enum page", "pageflags"),
        ("sym onl", "online_pages"),
        ("use x86_64 vmlinux=vm", "vmlinux=vmlinux"),
        ("vmlinux vm", "vmlinux"),
    ],
)
def test_completion_knows_the_names_of_the_image(play, text, item):
    play("vmlinux vmlinux")
    assert item in offered(play.shell, text)
    play.shell.image = None  # and without one, nothing is offered and nothing breaks
    assert (item in offered(play.shell, text)) == ("vmlinux" in text)


def test_names_are_read_when_they_are_asked_for_and_not_before(play):
    class Silent:
        def symbol_names(self):
            raise AssertionError("nobody asked")

    play.shell.image = Loaded(Silent(), None)
    assert offered(play.shell, "use x8")
    with pytest.raises(AssertionError, match="nobody asked"):
        offered(play.shell, "sym o")


# --- a machine that is sized by an image ---


def boot(play, words):
    """Return the line that says what was taken."""
    return play(f"use {words}").partition("\n")[2]


def test_the_facts_of_the_image_become_the_machines(play):
    write("k", "ppc64", "7.2.1", page=4096, section=32, orders=13, page_size=72)
    line = boot(play, "powerpc ram=2G vmlinux=k")
    taken = "struct page 72, pages of 4K, orders to 12, mem_section 32, profile v7.2"
    assert line == f"from k (7.2.1): {taken}"
    mm = play.shell.machine.mm
    assert (mm.arch.struct_page_size, mm.arch.page_size, mm.arch.mem_section_size) == (72, 4096, 32)
    assert (mm.arch.max_order, mm.arch.pageblock_order, mm.profile.name) == (12, 9, "v7.2")


def test_orders_and_sections_of_the_image_hold(play):
    write("k", "s390x", "6.12.1", orders=8, longs=1)
    line = boot(play, "s390 vmlinux=k")
    assert "sections" not in line  # one long leaves the section size open: the architecture's stands
    mm = play.shell.machine.mm
    assert (mm.arch.max_order, mm.arch.pageblock_order, mm.arch.section_size_bits) == (7, 7, 28)
    assert play("check").startswith("the state holds together")
    write("k", "s390x", "7.2.1", longs=2)
    assert "sections of 256M" in boot(play, "s390 vmlinux=k")  # the profile v7.2 alone has 128M
    assert play.shell.machine.mm.arch.section_size_bits == 28


CONFIG = """CONFIG_SPARSEMEM=y
CONFIG_MEMORY_HOTPLUG=y
CONFIG_MEMORY_HOTREMOVE=y
CONFIG_ZONE_DEVICE=y
CONFIG_HUGETLB_PAGE=y
# CONFIG_MHP_MEMMAP_ON_MEMORY is not set
CONFIG_TRANSPARENT_HUGEPAGE=y
CONFIG_TRANSPARENT_HUGEPAGE_MADVISE=y
CONFIG_CMA=y
CONFIG_MHP_DEFAULT_ONLINE_TYPE_ONLINE_MOVABLE=y
"""


def test_the_configuration_beside_the_image_builds_the_kernel(play):
    Path(".config").write_text(CONFIG)
    line = boot(play, "x86_64 ram=2G vmlinux=vmlinux")
    told = [
        "no CONFIG_MHP_MEMMAP_ON_MEMORY",
        "auto_online_blocks online_movable by CONFIG_MHP_DEFAULT_ONLINE_TYPE_ONLINE_MOVABLE",
        "transparent_hugepage madvise by CONFIG_TRANSPARENT_HUGEPAGE_MADVISE",
    ]
    assert line.endswith(", ".join(told))
    assert "onlined by auto_online_blocks=online_movable" in play("add 1G")
    refused = play("use x86_64 memmap_on_memory=Y vmlinux=vmlinux")
    assert refused.startswith("the kernel v6.12 was built without CONFIG_MHP_MEMMAP_ON_MEMORY")
    line = boot(play, "x86_64 auto_online=offline config.mhp_memmap_on_memory=on memmap_on_memory=Y vmlinux=vmlinux")
    assert "given by hand: config.mhp_memmap_on_memory=on (in the file: off)" in line
    assert "auto_online_blocks=offline (in the file: online_movable)" in line
    assert "memmap in the first 512 pages of each block" in play("add 128M")


@pytest.mark.parametrize(
    "option, lines, answer",
    [
        ("MEMORY_HOTPLUG", ["add 1G"], "the kernel v6.12 was built without CONFIG_MEMORY_HOTPLUG"),
        ("MEMORY_HOTREMOVE", ["add 1G", "remove 1G"], "the kernel v6.12 was built without CONFIG_MEMORY_HOTREMOVE"),
        ("MEMORY_HOTREMOVE", ["add 1G", "online 32", "offline 32"], "(EINVAL from mm/memory_hotplug.c:offline_pages)"),
        ("ZONE_DEVICE", ["probe 1G mode=fsdax"], "the kernel v6.12 was built without CONFIG_ZONE_DEVICE"),
        ("HUGETLB_PAGE", ["hugepages 2M=4"], "hugepages=2M cannot be; there are none here"),
    ],
)
def test_what_the_configuration_leaves_out_is_not_there(play, option, lines, answer):
    Path(".config").write_text(CONFIG.partition("CONFIG_MHP_DEFAULT")[0].replace(f"CONFIG_{option}=y\n", ""))
    assert f"no CONFIG_{option}" in boot(play, "x86_64 ram=2G vmlinux=vmlinux")
    assert answer in play(*lines)


def test_a_configuration_that_is_not_whole_leaves_nothing_out(play):
    Path(".config").write_text("CONFIG_MEMORY_HOTPLUG_DEFAULT_ONLINE=y\n")
    line = boot(play, "x86_64 ram=2G vmlinux=vmlinux")
    assert line.endswith("profile v6.12, auto_online_blocks online by CONFIG_MEMORY_HOTPLUG_DEFAULT_ONLINE")


def test_what_is_given_by_hand_wins_and_is_told(play):
    line = boot(play, "x86_64 struct_page=80 profile=v6.1 vmlinux=vmlinux")
    told = "given by hand: struct_page=80 (in the file: 64), profile=v6.1 (in the file: v6.12)"
    assert line == f"from vmlinux (6.12.0-example): pages of 4K, orders to 10, mem_section 16; {told}"
    mm = play.shell.machine.mm
    assert (mm.arch.struct_page_size, mm.profile.name) == (80, "v6.1")


def test_the_orders_of_the_file_go_with_its_page_size(play):
    write("k", "ppc64le", page=4096, orders=13)
    assert "orders" not in boot(play, "powerpc page=64K vmlinux=k")
    assert play.shell.machine.mm.arch.max_order == 8


def test_what_was_not_read_changes_nothing(play):
    Path("k").write_bytes(sample.image("ppc64le", debug={}))  # symbols alone: every size is a default
    assert boot(play, "powerpc page=4K struct_page=56 profile=v6.6 vmlinux=k") == (
        "from k (6.99.0-sample): nothing; given by hand: profile=v6.6 (in the file: v6.19)"
    )
    mm = play.shell.machine.mm
    assert (mm.arch.page_size, mm.arch.struct_page_size, mm.arch.max_order) == (4096, 56, 12)


@pytest.mark.parametrize(
    "release, told",
    [
        ("6.12.107+deb13", "profile v6.12"),
        ("6.14.3", "profile v6.12, the newest that is not newer"),
        ("6.1.0-50", "profile v6.1"),
        ("5.15.0", "profile v5.15"),
        ("7.10-rc1", "profile v7.3, the newest that is not newer"),
    ],
)
def test_the_release_chooses_the_profile(play, release, told):
    write("k", release=release)
    assert boot(play, "x86_64 vmlinux=k").endswith(f", {told}")
    assert play.shell.machine.mm.profile.name == told.split()[1].rstrip(",")


def test_a_kernel_that_is_older_than_every_profile(play):
    write("k", release="4.19.9")
    error = "k: no profile is as old as 4.19.9; profile=v5.10 plays the oldest that is known"
    assert play("use x86_64 vmlinux=k") == error
    line = boot(play, "x86_64 profile=v5.15 vmlinux=k")
    assert line.endswith("given by hand: profile=v5.15 (in the file: 4.19.9, older than any)")


# Source of the verdicts: mm/memory_hotplug.c:mhp_supports_memmap_on_memory of 6.1 and 6.12: the memmap of a
# block must be whole PMDs, and whole pageblocks.
@pytest.mark.parametrize("release", ["6.1.0", "6.12.0"])
@pytest.mark.parametrize(
    "size, block, accepted",
    [
        (56, "128M", False),
        (64, "128M", True),
        (80, "128M", False),
        (56, "256M", False),
        (80, "256M", False),
        (80, "512M", True),
        (56, "2G", True),
    ],
)
def test_the_size_of_struct_page_decides_whether_the_memmap_fits_in(play, release, size, block, accepted):
    write("k", release=release, page_size=size)
    play(f"use x86_64 ram=4G block={block} policy=memmap_on_memory vmlinux=k", f"add {block}")
    altmaps = [one.altmap for one in play.shell.machine.mm.blocks.values() if one.altmap]
    assert bool(altmaps) == accepted
    memmap = {"128M": 128, "256M": 256, "512M": 512, "2G": 2048}[block] * 256 * size // 4096
    assert [one.alloc for one in altmaps] == ([memmap] if accepted else [])
    assert play("check").startswith("the state holds together")


def test_padding_on_powerpc_follows_the_size(play):
    # A block of 256M has 4096 pages of 64K: 224K of memmap with 56 bytes, which is not whole pages;
    # else 4 or 5 of the 32 pages of a pageblock.
    for size, kept in ((56, []), (64, [32]), (80, [32])):
        write("k", "ppc64le", page=65536, orders=9, page_size=size)
        play("use powerpc vmlinux=k policy=memmap_on_memory_force", "add 256M")
        blocks = play.shell.machine.mm.blocks.values()
        assert [one.altmap.free for one in blocks if one.altmap] == kept


def test_an_image_of_another_architecture_is_refused_with_the_right_words(play):
    write("k", "s390x")
    play("use x86_64")
    before = play.shell.machine
    assert play("use x86_64 vmlinux=k") == "k: a kernel of s390x, not of x86_64; use s390 vmlinux=k"
    assert (play.shell.machine, play.shell.image) == (before, None)


@pytest.mark.parametrize(
    "target, sizes, arch, message",
    [
        ("x86_64", {"orders": 41}, "x86_64", "blocks of order 40 with pages of 4K in sections of 128M "),
        ("ppc64", {"page": None, "orders": 13}, "powerpc", "blocks of order 12 with pages of 64K in "),
        ("x86_64", {"section": 24}, "x86_64", "struct mem_section of 24 bytes"),
        ("x86_64", {"page_size": 104}, "x86_64", "k: a struct page of 104 bytes cannot be"),
    ],
)
def test_constants_that_no_kernel_has_are_refused(play, target, sizes, arch, message):
    write("k", target, **sizes)
    assert play(f"use {arch} vmlinux=k").startswith(message)
    assert play.shell.machine is None


def test_a_page_of_16_bytes_is_refused(play):
    # What an object looks like whose relocations were not applied, were its layout otherwise possible.
    ulong = b.Int("long unsigned int", 8)
    page = b.Record("struct", "page", 16, [("flags", ulong, 0), ("private", ulong, 8)])
    Path("k").write_bytes(sample.image(roots=[page]))
    assert play("use x86_64 vmlinux=k").startswith("k: a struct page of 16 bytes cannot be")


def test_a_saved_session_has_the_image_in_it(play):
    play("use x86_64 vmlinux=vmlinux", "add 1G", "save s.mem")
    assert Path("s.mem").read_text() == "use x86_64 vmlinux=vmlinux\nadd 1G\n"


# --- page ---


def test_flags_by_the_kernels_own_numbers(play):
    play("use x86_64 vmlinux=vmlinux policy=memmap_on_memory", "add 128M", "online memory32 movable")
    lines = play("page 0x100000").splitlines()
    assert "flags: 0x400(vmemmap_self_hosted), bits of 6.12.0-example" in lines
    assert "kpageflags: 0x2000000000(owner_private)" in lines
    play("alloc 4M movable node=0")
    found = json.loads(play("page 0x1000 -F json"))["struct_page_flags"]
    assert found == {"PG_reserved": 13}  # of a page that boot reserved
    write("k", release="6.1.0", flags={"PG_reserved": 12, "PG_owner_priv_1": 7})
    play("vmlinux k")
    assert "flags: 0x80(owner_priv_1), bits of 6.1.0" in play("page 0x100000").splitlines()


def test_flags_of_another_architecture_are_not_shown(play):
    write("k", "s390x")
    play("use x86_64 policy=memmap_on_memory", "vmlinux k", "add 128M", "online memory32 movable")
    assert "flags: 0x2000000000(owner_private)" in play("page 0x100000").splitlines()


def test_flag_numbers_that_cannot_be_are_left_out(play):
    write("k", flags={"PG_reserved": 2**31, "PG_owner_priv_1": 7})
    play("use x86_64 vmlinux=k")
    assert "flags: 0x0(none), bits of 6.12.0-example" in play("page 0x1000").splitlines()


# --- as processes ---


def test_the_line_in_a_script(tmp_path):
    (tmp_path / "vmlinux").write_bytes(sample.example(page_size=56))
    done = run("-c", "use x86_64 vmlinux=vmlinux ram=2G; sizeof page", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith("from vmlinux (6.12.0-example): struct page 56, ")
    assert done.stdout.splitlines()[-1] == "page   56"


@pytest.mark.parametrize(
    "args, code, message",
    [
        (["vmlinux", "."], 1, "memshell: .: a directory"),
        (["vmlinux", "pipe"], 1, "memshell: pipe: not a regular file"),
        (["vmlinux", "empty"], 1, "memshell: empty: the file is empty"),
        (["vmlinux", "cut"], 1, "memshell: cut: "),
        (["vmlinux", "nosuch"], 1, "memshell: nosuch: No such file"),
        (["vmlinux", "text"], 1, "memshell: text: not a kernel image"),
        (["vmlinux"], 2, "memshell: memshell vmlinux: "),
        (["vmlinux", "vmlinux", "--jsn"], 2, "memshell: memshell vmlinux: "),
        (["-c", "use x86_64 vmlinux=pipe"], 1, "-c:1: pipe: not a regular file"),
        (["-c", "use x86_64 vmlinx=vmlinux"], 2, "-c:1: unknown key 'vmlinx'; did you mean 'vmlinux'?"),
        (["-c", "use x86_64 vmlinux="], 2, "-c:1: 'vmlinux=' is not of the form key=value"),
    ],
)
def test_wrong_files_end_in_one_line_and_an_exit_code(tmp_path, monkeypatch, capsys, args, code, message):
    (tmp_path / "vmlinux").write_bytes(sample.example())
    (tmp_path / "cut").write_bytes(sample.example()[:900])
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("hello\n")
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    assert main(args) == code
    printed, told = capsys.readouterr()
    assert printed == ""
    assert told.startswith(message), told
    assert len(told.splitlines()) == 1


def test_the_form_of_the_whole_run_is_heard(tmp_path):
    (tmp_path / "vmlinux").write_bytes(sample.example())
    assert json.loads(run("-F", "json", "vmlinux", "vmlinux", folder=tmp_path).stdout)["arch"] == "x86_64"


def test_facts_fit_a_terminal_of_80_columns(play):
    play.shell.output.width = 80
    lines = play("vmlinux vmlinux").splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith(" " * 30) and "asm/sparsemem.h" in line for line in lines)


# --- real kernels ---

REAL = [
    ("x86_64", "x86_64-6.12.107.btf-1cu.elf", "pages of 4K, orders to 10, mem_section 16, profile v6.12"),
    ("x86_64", "x86_64-6.1.176.dwarf-1cu.elf", "pages of 4K, orders to 10, mem_section 16, profile v6.1"),
    ("powerpc", "ppc64le-6.1.176.dwarf-1cu.elf", "pages of 64K, orders to 8, mem_section 32, profile v6.1"),
    ("powerpc", "ppc64le-6.12.107.btf-1cu.elf", "pages of 4K, orders to 12, mem_section 32, profile v6.12"),
    ("powerpc", "ppc64be-6.1.192.dwarf.elf", "orders to 8, mem_section 16"),
    (
        "s390",
        "s390x-6.12.107.btf-1cu.elf",
        "pages of 4K, orders to 10, sections of 256M, mem_section 32, profile v6.12",
    ),
]


@needs_fixtures
@pytest.mark.parametrize("arch, name, taken", REAL)
def test_machines_of_real_kernels(arch, name, taken):
    commands = "add 1G; online offline movable; check; sizeof page zone; page 0x1000"
    done = run("-c", f"use {arch} vmlinux={name}; {commands}", folder=FIXTURES)
    assert (done.returncode, done.stderr) == (0, "")
    line = done.stdout.splitlines()[1]
    assert line.startswith(f"from {name} (")
    assert line.endswith(f": struct page 64, {taken}")


@needs_fixtures
@pytest.mark.parametrize("name", ["x86_64.o", "powerpc64.o", "s390x.o"])
def test_an_object_is_relocated_before_it_is_believed(name):
    # Read without its relocations, struct page of these objects has 16 bytes.
    assert load(FIXTURES / "tiny" / name).facts.structs["page"].size == 64


@needs_fixtures
def test_completion_reads_a_whole_btf_while_commands_do(play):
    from threading import Thread

    play(f"vmlinux {FIXTURES / 's390x-6.12.107.btf.elf.xz'}")
    found = []
    worker = Thread(target=lambda: found.append(offered(play.shell, "struct task_")))
    worker.start()
    assert play("sizeof task_struct").startswith("NAME")
    worker.join()
    assert "task_struct" in found[0]
