"""Read a machine: the running one, a copied /proc and /sys tree, or what ``lsmem -J`` printed."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from memshell.capture import formats
from memshell.capture.lsmem import lsmem_state
from memshell.errors import ImageError, RecordingError
from memshell.mm.params import MEMMAP_ON_MEMORY, PARAMETERS

if TYPE_CHECKING:
    from memshell.arch import Arch

SCHEMA = "memshell-machine/1"
MAX_BYTES = 64 << 20  # of one file; /proc/kallsyms would not be a tenth
PAGE_SIZES = (4096, 16384, 65536)
PAGE_OPTION = re.compile(r"CONFIG_(?:\w+_(\d+)K_PAGES|PAGE_SIZE_(\d+)KB)")
# Where distributions keep the configuration, of which Debian's packages since 7.2 have the third.
CONFIGS = (
    "boot/config-{}",
    "lib/modules/{}/config",
    "usr/lib/modules/{}/config",
    "lib/modules/{}/build/.config",
    "usr/lib/modules/{}/build/.config",
    "usr/lib/ostree-boot/config-{}",
    "usr/src/linux-headers-{}/.config",
    "usr/src/kernels/{}/.config",
)
MEMORY, NODE, MODULE = ("sys/devices/system/memory", "sys/devices/system/node", "sys/module/memory_hotplug/parameters")


class Tree:
    """A root with proc/ and sys/ under it; remembers in *notes* what could not be read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._real = os.path.realpath(root)
        self.notes: list[str] = []

    def bytes(self, name: str, instead: str | None = None) -> bytes | None:
        """Return a file's bytes, or None; then *instead* goes into the notes with the reason."""
        try:
            path = self._inside(name)
            with path.open("rb") as file:
                return file.read(MAX_BYTES)
        except OSError as error:
            if instead is not None:
                self.note(name, error.strerror or str(error), instead)
            return None

    def _inside(self, name: str) -> Path:
        """Return the path of a file below the root. Raises OSError for one that a link leads out of it, or that is none."""
        path = self.root / name
        if not os.path.realpath(path).startswith(self._real):
            raise OSError(errno.EXDEV, "a link leads out of the tree")
        if path.exists() and not path.is_file():
            raise OSError(errno.EINVAL, "it is no file")
        return path

    def text(self, name: str, instead: str | None = None) -> str | None:
        """Return a file's text, or None; then *instead* goes into the notes with the reason."""
        data = self.bytes(name, instead)
        return None if data is None else data.decode("utf-8", "replace")

    def note(self, name: str, why: str, instead: str) -> None:
        """Say that /*name* was not read."""
        self.notes.append(f"/{name}: {why}; {instead}")

    def names(self, folder: str, pattern: str) -> list[int]:
        """Return the numbers N of the entries of *folder* that *pattern* matches, rising."""
        try:
            entries = os.listdir(self.root / folder)  # noqa: PTH208 - names are enough, and there may be 100,000
        except OSError:
            return []
        return sorted(int(match[1]) for entry in entries if (match := re.fullmatch(pattern, entry)))


def capture(arches: Collection[Arch], root: Path | None = None, arch: str | None = None) -> dict[str, Any]:
    """Return the machine file of the running machine, or of the tree or the ``lsmem -J`` output at *root*.

    *arch* names the architecture, where cpuinfo does not. Raises `RecordingError` for a root that is none, or of none of
    *arches*.
    """
    if root is not None and not root.exists():
        raise RecordingError(f"cannot read {root}: no such file or folder")
    if root is not None and root.is_file() and tarfile.is_tarfile(root):
        with TemporaryDirectory() as folder:
            return capture(arches, unpacked(root, Path(folder)), arch)
    if root is not None and root.is_file():
        return _from_lsmem(arches, root, arch)
    tree = Tree(root or Path("/"))
    if not (tree.root / "proc").is_dir() and not (tree.root / "sys").is_dir():
        raise RecordingError(
            f"{tree.root} has neither proc nor sys in it", hint="copy /proc/{zoneinfo,iomem,...} to DIR/proc"
        )
    state = read_state(tree)
    text = tree.text("proc/cpuinfo", "the CPU's mappings are taken from /proc/meminfo and defaults") or ""
    cpu = formats.cpuinfo(text, {"model name", *(key for known in arches for key in known.cpu_keys)})
    name = _arch_name(arches, tree, cpu, arch, live=root is None)
    version = tree.text("proc/version", "`use` takes its default profile unless profile= is given") or ""
    config = read_config(tree, version)
    cmdline = formats.memory_words(tree.text("proc/cmdline", "no boot parameter is known") or "")
    known = next((one for one in arches if one.is_machine(name)), None)
    facts = read_facts(tree, known, config, state, live=root is None)
    _judge(tree, state, facts)
    return _machine(name, version.partition("(")[0].strip(), config, cmdline, cpu, facts, state, tree.notes)


def unpacked(archive: Path, folder: Path) -> Path:
    """Unpack what is read of a tree's archive, such as a sosreport; return the root in it. Raises `RecordingError`."""
    try:
        with tarfile.open(archive) as tar:
            for number, member in enumerate(tar):
                if number > MOST_MEMBERS:
                    raise RecordingError(
                        f"{archive} has more than {MOST_MEMBERS} files", hint="unpack it, and give the folder"
                    )
                if READ.search(f"/{member.name}") and (member.isdir() or member.issym() or member.size <= MAX_BYTES):
                    tar.extract(member, folder, filter="data")
    except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise RecordingError(f"cannot read {archive}: {error}") from error
    roots = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    return next((path for path in roots if (path / "proc").is_dir() or (path / "sys").is_dir()), folder)


# Of an archive: /proc, /sys, the configuration, and what sos keeps of lsmem.
READ = re.compile(
    r"/(proc/(cpuinfo|version|cmdline|zoneinfo|buddyinfo|pagetypeinfo|meminfo|vmstat|iomem|config\.gz)$|sys/devices/system/(memory|node)"
    r"|sys/module/memory_hotplug|(boot|lib/modules/[^/]+)/config|sos_commands/memory/lsmem)"
)
MOST_MEMBERS = 1_000_000


def _machine(
    arch: str,
    kernel: str,
    config: dict[str, str],
    cmdline: str,
    cpu: dict[str, str],
    facts: dict[str, int],
    state: dict[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "arch": arch,
        "kernel": kernel,
        "config": config,
        "cmdline": cmdline,
        "cpu": cpu,
        "facts": facts,
        "state": state,
        "notes": notes,
    }


def _give_arch(arches: Collection[Arch]) -> str:
    """Return the hint for a root that does not say its architecture."""
    return f"give --arch, one of {', '.join(sorted(arch.name for arch in arches))}"


def _from_lsmem(arches: Collection[Arch], path: Path, arch: str | None) -> dict[str, Any]:
    tree = Tree(path.parent)
    data = tree.text(path.name)
    if data is None:
        raise RecordingError(f"cannot read {path}")
    state, notes = lsmem_state(data, str(path))
    if arch is None:
        raise RecordingError(f"{path}: lsmem does not say the architecture", hint=_give_arch(arches))
    return _machine(arch, "", {}, "", {}, {}, state, notes)


def _arch_name(arches: Collection[Arch], tree: Tree, cpu: dict[str, str], given: str | None, *, live: bool) -> str:
    if given is not None:
        return given
    found = os.uname().machine if live else next((arch.name for arch in arches if arch.is_cpu(cpu)), None)
    if found is None:
        raise RecordingError(f"{tree.root}: proc/cpuinfo does not say the architecture", hint=_give_arch(arches))
    return found


# --- /proc and /sys ---


def read_state(tree: Tree) -> dict[str, Any]:
    """Return the state in the shape of a recorded one; what cannot be read is absent.

    Raises `RecordingError` without memory blocks.
    """
    state: dict[str, Any] = {}
    listing = _sos_lsmem(tree)
    if listing is not None:
        state, notes = listing
        tree.notes += notes
    size = tree.text(f"{MEMORY}/block_size_bytes") if listing is None else f"{state['block_size_bytes']:x}"
    if size is None or not re.fullmatch(r"[0-9a-fA-F]+\s*", size):
        raise RecordingError(
            f"{tree.root / MEMORY}/block_size_bytes cannot be read: no memory blocks here",
            hint="no CONFIG_MEMORY_HOTPLUG, or a container hides them; read the host, or --root DIR",
        )
    text = tree.text("proc/zoneinfo", "zones are taken from the memory blocks, all of their pages as free")
    if text is not None:
        state["zones"] = formats.zoneinfo(text)
        text = tree.text("proc/buddyinfo", "free pages are taken as the largest blocks that they can make")
        if text is not None:
            state["buddyinfo"] = formats.buddyinfo(text)
    meminfo = tree.text("proc/meminfo", "the page size is not checked, and mappings are the architecture's defaults")
    if meminfo is not None:
        state["meminfo_kb"] = formats.counters(meminfo)
    state["vmstat"] = {
        name: value
        for name, value in formats.counters(tree.text("proc/vmstat", "nr_memmap_pages counts from 0") or "").items()
        if name in ("nr_free_pages", "nr_memmap_pages", "nr_memmap_boot_pages")
    }
    _read_iomem(tree, state)
    if listing is None:
        state["block_size_bytes"] = int(size, 16)
        _read_sysfs(tree, state)
    return state


def _sos_lsmem(tree: Tree) -> tuple[dict[str, Any], list[str]] | None:
    """Return the memory blocks that a sosreport lists with lsmem, where sysfs has none; None without."""
    folder = "sos_commands/memory"
    if tree.names(MEMORY, r"memory(\d+)") or not (tree.root / folder).is_dir():
        return None
    for name in sorted(path.name for path in (tree.root / folder).glob("lsmem*")):
        text = tree.text(f"{folder}/{name}")
        if text is not None:
            state, notes = lsmem_state(text, f"{folder}/{name}")
            return state, [
                note for note in notes if not any(word in note for word in ("counters", "iomem", "kernel and"))
            ]
    return None


def _read_iomem(tree: Tree, state: dict[str, Any]) -> None:
    instead = "RAM is taken from the memory blocks, so holes and reserved ranges are not seen"
    text = tree.text("proc/iomem", instead)
    lines = formats.iomem(text or "")
    if any(end for _, _, end, _ in lines):
        state["iomem"] = lines
    elif text is not None:
        tree.note("proc/iomem", "all addresses are zero (it needs root)", instead)


def _read_sysfs(tree: Tree, state: dict[str, Any]) -> None:
    numbers = tree.names(MEMORY, r"memory(\d+)")
    if not numbers:
        raise RecordingError(
            f"{tree.root / MEMORY} has no memory blocks in it", hint="copy sys/devices/system/memory whole"
        )
    nodes = {
        block: node
        for node in tree.names(NODE, r"node(\d+)")
        for block in tree.names(f"{NODE}/node{node}", r"memory(\d+)")
    }
    state["memory_blocks"] = {str(number): _read_block(tree, number, nodes) for number in numbers}
    online = tree.text(f"{MEMORY}/auto_online_blocks", "blocks that are added stay offline")
    if online is not None:
        state["auto_online_blocks"] = online.strip()
    state["params"] = {}
    for name in (MEMMAP_ON_MEMORY, *(one.name for one in PARAMETERS.values() if one.module)):
        value = tree.text(f"{MODULE}/{name}")
        if value is not None:
            state["params"][name] = value.strip()
    if not (tree.root / MODULE).is_dir():
        tree.note(
            MODULE, "not there", "the kernel's defaults are taken: memmap_on_memory=N, online_policy=contig-zones"
        )
    found = {
        name: tree.text(f"{NODE}/{name}")
        for name in ("online", "possible", "has_cpu", "has_memory", "has_normal_memory")
    }
    state["nodes"] = {name: text.strip() for name, text in found.items() if text is not None}
    fixed = [number for number, block in state["memory_blocks"].items() if block.get("removable") == "0"]
    if fixed:
        tree.notes.append(
            f"/sys: removable is 0 for {len(fixed)} of {len(numbers)} blocks, the first memory{fixed[0]}: they hold what cannot "
            "be migrated, or the kernel has no CONFIG_MEMORY_HOTREMOVE; which pages is not shown, and the model may let them go"
        )
    if not any("node" in block for block in state["memory_blocks"].values()):
        tree.note(NODE, "does not say which blocks are whose", "the zones say it")


def _read_block(tree: Tree, number: int, nodes: dict[int, int]) -> dict[str, Any]:
    folder = f"{MEMORY}/memory{number}"
    state = tree.text(f"{folder}/state")
    if state is None:
        raise RecordingError(f"{tree.root / folder}/state cannot be read", hint="copy sys/devices/system/memory whole")
    block: dict[str, Any] = {"state": state.strip(), "phys_index": number}
    for name in ("valid_zones", "removable"):
        text = tree.text(f"{folder}/{name}")
        if text is not None:
            block[name] = text.strip()
    links = [nodes[number]] if number in nodes else tree.names(folder, r"node(\d+)")
    if links:
        block["node"] = links[0]
    return block


def read_config(tree: Tree, version: str) -> dict[str, str]:
    """Return the memory options of the kernel's configuration; empty where it cannot be read."""
    packed = tree.bytes("proc/config.gz")
    if packed is not None:
        try:
            return formats.config(zlib.decompressobj(31).decompress(packed, MAX_BYTES).decode("utf-8", "replace"))
        except (zlib.error, gzip.BadGzipFile) as error:
            tree.note("proc/config.gz", str(error), "looking in /boot")
    words = version.split()
    release = words[2] if len(words) > 2 else ""
    instead = "struct sizes that depend on the configuration are the defaults"
    for place in CONFIGS if re.fullmatch(r"[\w.+~-]+", release) else ():
        text = tree.text(place.format(release))
        if text is not None:
            return formats.config(text)
    if release:
        tree.note(CONFIGS[0].format(release), "No such file or directory, nor is any other configuration", instead)
    return {}


def read_facts(
    tree: Tree, arch: Arch | None, config: dict[str, str], state: dict[str, Any], *, live: bool
) -> dict[str, int]:
    """Return page_size, struct_page (bytes) and pageblock_order, as far as they were read."""
    facts: dict[str, int] = {}
    size = os.sysconf("SC_PAGE_SIZE") if live else page_size(arch, config, state)
    if size is not None:
        facts["page_size"] = size
    else:
        tree.notes.append(
            "page size: neither MemTotal nor the configuration says it; the architecture's default is taken"
        )
    text = tree.text("proc/pagetypeinfo", "types of pageblocks are not known; free memory counts as movable")
    if text is not None:
        order, blocks = formats.pagetypeinfo(text)
        facts |= {} if order is None else {"pageblock_order": order}
        state["pageblocks"] = blocks
    struct_page = _struct_page(tree)
    if struct_page is not None:
        facts["struct_page"] = struct_page
    return facts


def page_size(arch: Arch | None, config: dict[str, str], state: dict[str, Any]) -> int | None:
    """Return the page size of a copied tree in bytes: MemTotal over managed pages, or what else says it."""
    total = state.get("meminfo_kb", {}).get("MemTotal", 0) << 10
    managed = sum(zone["managed"] for zone in state.get("zones", ()))
    near = [size for size in PAGE_SIZES if abs(total - managed * size) * 50 < total]
    if near:
        return near[0]
    if arch is not None and not arch.has_option("page"):
        return arch.page_size
    options = [found for name in config if (found := PAGE_OPTION.fullmatch(name))]
    return int(options[0][1] or options[0][2]) << 10 if options else None


def _struct_page(tree: Tree) -> int | None:
    """Return sizeof(struct page) from the kernel's BTF, where it can be read."""
    path = tree.root / "sys/kernel/btf/vmlinux"
    if not path.is_file():
        return None
    from memshell.vmlinux import read_facts as read_image

    try:
        layout = read_image(path).structs.get("page")
    except (ImageError, OSError) as error:
        tree.note("sys/kernel/btf/vmlinux", str(error), "sizeof(struct page) is taken as 64")
        return None
    return layout.size if layout else None


def _judge(tree: Tree, state: dict[str, Any], facts: dict[str, int]) -> None:
    """Note what the readings say against each other, and what no file says."""
    total, size = state.get("meminfo_kb", {}).get("MemTotal", 0), facts.get("page_size")
    managed = sum(zone["managed"] for zone in state.get("zones", ()))
    if total and size and managed and abs((total << 10) - managed * size) * 50 >= total << 10:
        tree.notes.append(
            f"/proc/meminfo: MemTotal is {total} kB; not taken: "
            f"the zones of /proc/zoneinfo manage {managed * size >> 10} kB"
        )
    if any(zone["zone"] == "Device" and zone["spanned"] for zone in state.get("zones", ())):
        tree.notes.append("/proc/zoneinfo: ZONE_DEVICE memory is left out")
    if not state["vmstat"].get("nr_memmap_boot_pages"):
        tree.notes.append("/sys: which online blocks were added after boot is not shown; they count as memory of boot")
    if state.get("params", {}).get("memmap_on_memory", "N") != "N":
        tree.notes.append(
            "/sys: which blocks hold their own memmap is not shown; those of zone Movable do if its counts fit"
        )
