"""What ``help WORD`` says of subjects, and of the tools that people know: which command stands for them here."""

from __future__ import annotations

from textwrap import wrap
from typing import NamedTuple


class Topic(NamedTuple):
    """One word: what it is, and lines of what is asked, or typed there, and what is typed here."""

    text: str
    lines: tuple[tuple[str, str], ...]


MEMMAP = Topic(
    "The memmap is the array of struct page, one for each page frame: with 64 bytes for 4K pages a 64th of the memory, "
    "16M for each GiB. Added memory gets it when it is added: from existing memory, which must be free in a kernel zone "
    "(policy buddy), or from the first pages of the added blocks themselves (policy memmap_on_memory).",
    (
        ("how much there is, and of which memory", "print memmap; print memmap.buddy; print memmap.altmap"),
        ("what maps it", "vmemmap"),
        ("what is added from now on holds its own", "policy memmap_on_memory"),
        ("what each way costs", "compare buddy memmap_on_memory -- add 4G"),
    ),
)
ZONES = Topic(
    "A block comes online in one zone. DMA, DMA32 and Normal are kernel zones: anything may live there, and what cannot be "
    "moved keeps a block from going offline. Movable takes only pages that can be moved; a memmap is never there. "
    "Device is memory that the buddy allocator never sees. Without a word the kernel chooses, by online_policy.",
    (
        ("what each zone spans and has", "zoneinfo"),
        ("one number of a zone", "print zone.Movable.managed; print zone.0.Normal.free"),
        ("which zones a block may come online in", "lsmem -o +ZONES"),
        ("to Movable, so that it can go again", "online offline movable"),
        ("to a kernel zone", "online offline kernel"),
    ),
)
BLOCKS = Topic(
    "A memory block, memoryN, is what goes online and offline: block N begins at N times the block size. It is 128M on "
    "x86_64 with less than 64G, where sections are as large; one of several sections is added and removed as one.",
    (
        ("the blocks, and the size of one", "lsmem; print block_size"),
        ("each on a line of its own", "lsmem -a"),
        ("one of them: its state, and what is inside", "print block.32.state; map 32"),
        ("naming them", "online 32-39; online 0x140000000-0x14fffffff; online all; offline last"),
    ),
)
ALTMAP = Topic(
    "struct vmem_altmap says that a range's memmap comes out of the range itself: how many pages at its start are set aside, "
    "how many of them are reserved, and how many the memmap took.",
    (
        ("blocks that hold their own memmap", "policy memmap_on_memory; add 1G; altmap"),
        ("a device that does", "probe 0x2000000000 1G mode=devdax map=dev; altmap"),
    ),
)
POLICIES = Topic(
    "Two things are called a policy. Where the memmap of added memory goes is memory_hotplug.memmap_on_memory on the "
    "kernel's command line, here `policy`. Which zone a block comes online in when nobody says is online_policy: "
    "contig-zones keeps zones together, auto-movable onlines to Movable as long as the ratio of movable to kernel memory "
    "stays below auto_movable_ratio percent.",
    (
        ("where the memmap goes: the list, and a choice", "policy; policy memmap_on_memory"),
        ("which zone", "set online_policy=auto-movable; set auto_movable_ratio=301"),
        ("added memory comes online by itself", "set auto_online_blocks=online_movable"),
        ("both at boot", "use x86_64 policy=memmap_on_memory auto_online=online_movable"),
    ),
)
OFFLINE = Topic(
    "What keeps a block online: EBUSY is a page that cannot be moved (the kernel's own, or a memmap), EINTR one that could and "
    "does not, so that the kernel tries until a signal (pinned pages, no room to move to), EINVAL a block with a hole or in "
    "two zones, or one that is offline already.",
    (
        ("why a block stays online", "why 32"),
        ("what is inside it", "map 32"),
        ("a page, and whose it is", "page 0x100000"),
        ("what is allocated, and where", "alloc"),
        ("memory that goes offline again", "online offline movable"),
    ),
)
SIZES = Topic(
    "Sizes and addresses are bytes with a binary suffix: 128M, 1.5G, 4k, 2GiB, 0x8000000. A number without one is bytes "
    "for a command; in an expression it counts what stands beside it: pages, blocks or bytes.",
    (
        ("a sum", "print 2T / 64; print 1.5G / block_size"),
        ("what a machine has", "print present; print usable; print memmap; print wasted"),
        ("what a device keeps, lost and has plugged", "print data; print lost; print plugged"),
    ),
)
NUMACTL = Topic(
    "numactl and migratepages: where memory is taken, and moved to. A machine of several nodes: use x86_64 nodes=2",
    (
        ("numactl --hardware", "zoneinfo"),
        ("numactl --preferred=0 PROGRAM", "alloc 80M node=0"),
        ("migratepages PID 1 0", "alloc 80M; migrate all node=0"),
    ),
)
SYSCTL = Topic(
    "/proc/sys and sysctl: of these there are the pools of huge pages.",
    (("sysctl vm.nr_hugepages=200", "hugepages 2M=200"),),
)
CI = Topic(
    "A scenario is a test. `memshell test FILE... --junit OUT.xml` plays each on a machine of its own: 0 fine, 1 an expectation "
    "failed, 2 something is typed wrong. `let size ?= 1G` is a parameter, which -D size=4G gives; a first line "
    "`# matrix: policy=buddy,memmap_on_memory size=1G,4G` makes a test of each combination. pytest finds *.mem by itself.",
    (
        ("what was typed, as a scenario that checks itself", "save mine.mem --expect; source mine.mem"),
        ("one expectation", "expect blocks.online == 16"),
        ("one that has to fail", "! add 100M; expect error == EINVAL"),
    ),
)
REVIEW = Topic(
    "What is a check of a patch for? Each check of the series of 2017 to 2019 is a switch, and so is each known bug of a "
    "released kernel (`set` lists them). `mutate FILE` plays a scenario once for each check with that one off.",
    (
        ("with and without one, side by side", "compare rfc-2018 rfc-2018,check.online_pages_range=off -- add 1G"),
        ("without it from here on", "use x86_64 profile=rfc-2018; set check.online_pages_range off"),
        ("what an add and online do then", "add 1G; online offline movable; events"),
    ),
)
UTIL_LINUX = Topic(
    "util-linux: lsmem lists memory blocks, chmem sets them online and offline. Both are here, with their options.",
    (
        ("lsmem -o RANGE,SIZE,STATE,ZONES", "lsmem -o RANGE,SIZE,STATE,ZONES"),
        ("chmem -e -z Movable -b 32-39", "chmem -e -z Movable -b 32-39"),
        ("chmem -d 1G", "chmem -d 1G"),
        ("chmem -c 1G -m 1  (s390 since v6.19)", "configure 1G memmap_on_memory=1"),
        ("chmem -g -b 16  (s390 since v6.19)", "deconfigure 16"),
        ("the first blocks that are deconfigured", "lsmem -o +CONFIGURED,MEMMAP-ON-MEMORY"),
    ),
)
DAXCTL = Topic(
    "ndctl and daxctl: persistent and CXL memory as raw, fsdax or devdax device, or as RAM by the kmem driver.",
    (
        ("ndctl create-namespace -m fsdax -M dev", "probe 0x100000000 4G mode=fsdax map=dev"),
        ("ndctl create-namespace -m devdax -a 1G", "probe 0x100000000 4G mode=devdax align=1G"),
        ("daxctl reconfigure-device -m system-ram dax0.0", "probe 0x100000000 --off; probe 0x100000000 4G mode=kmem"),
        ("daxctl online-memory dax0.0", "online offline movable"),
        ("daxctl offline-memory dax0.0", "offline 32-63"),
        ("daxctl reconfigure-device -m devdax dax0.0", "probe 0x100000000 --off; probe 0x100000000 4G mode=devdax"),
        ("ndctl list, daxctl list", "devices"),
        ("a CXL device as RAM that holds its own memmap", "policy memmap_on_memory; probe 2T mode=kmem map=dev"),
    ),
)
DRMGR = Topic(
    "powerpc-utils: drmgr takes LMBs from the hypervisor and gives them back, each onlined or offlined at once.",
    (
        ("drmgr -c mem -a -q 4", "dlpar memory add count 4          (or: add 1G via=dlpar)"),
        ("drmgr -c mem -a -s 0x80000008", "dlpar memory add index 0x80000008"),
        ("drmgr -c mem -r -q 2", "dlpar memory remove count 2       (or: eject 512M via=dlpar)"),
        ("drmgr -c mem -r -s 0x80000008", "dlpar memory remove index 0x80000008"),
        ("lsslot -c mem", "dlpar"),
        ("device_add pc-dimm (QEMU)", "add 0x80000000 1G via=dlpar"),
        ("a partition of at most 64G, PowerVM", "use powerpc ram=8G max=64G hypervisor=phyp"),
    ),
)
HV = Topic(
    "Hyper-V: the host names pages, the driver adds whole memory blocks; what is not backed is PageOffline.",
    (
        ("Set-VMMemory -StartupBytes +4000M", "add 4000M via=hv_balloon; online offline movable"),
        ("and again +1000M: it goes on there", "add 1000M via=hv_balloon"),
    ),
)
XEN = Topic(
    "Xen: the balloon adds whole sections and keeps their pages until the hypervisor populates them.",
    (("xl mem-set DOMAIN +300m", "add 300M via=xen; online offline"),),
)
VIRSH = Topic(
    "libvirt and QEMU: a DIMM that ACPI reports, or a virtio-mem device that grows and shrinks.",
    (
        ("virsh attach-device VM dimm.xml", "add 1G"),
        ("virsh detach-device VM dimm.xml", "eject memory32"),
        ("device_add pc-dimm,memdev=m0", "add 1G"),
        ("virsh update-memory-device VM --requested-size 4G", "virtio-mem 4G"),
        ("qom-set vm0 requested-size 4G", "virtio-mem 4G"),
        ("-device virtio-mem-pci,block-size=8M", "virtio-mem 1G block_size=8M region=16G"),
        ("virsh reboot VM", "reboot"),
    ),
)
SYSFS = Topic(
    "/sys/devices/system/memory: a block's state, the default online type, and the file probe. A line with the whole path, "
    "as in echo offline > /sys/devices/system/memory/memory32/state, is understood as it is, behind sudo or into tee too.",
    (
        ("echo online_movable > .../memory32/state", "online 32 movable"),
        ("echo offline > .../memory32/state", "offline 32"),
        ("echo 1 > .../memory32/online", "write memory32/online 1"),
        ("echo WORD > .../memory32/state, right or wrong", "write memory32/state WORD"),
        ("echo online > .../auto_online_blocks", "set auto_online_blocks=online"),
        ("echo 0x100000000 > .../probe", "add 0x100000000 128M via=probe"),
        ("echo auto-movable > .../parameters/online_policy", "set online_policy=auto-movable"),
        ("for i in .../memory*/state; do echo online > $i; done", "online all"),
        ("cat .../memory32/valid_zones", "cat /sys/devices/system/memory/memory32/valid_zones"),
    ),
)
CRASH = Topic(
    "crash and drgn: look at a page, a section, the zones, the memmap.",
    (
        ("crash> kmem -p, drgn pfn_to_page(pfn)", "page 0x100000"),
        ("crash> kmem -n", "section 32"),
        ("crash> kmem -z", "zoneinfo"),
        ("dmesg: what the kernel did in the last step", "events"),
    ),
)

TOPICS: dict[str, Topic] = {
    **dict.fromkeys(("memmap", "struct-page", "vmemmap"), MEMMAP),
    **dict.fromkeys(("zones", "zone"), ZONES),
    **dict.fromkeys(("blocks", "block"), BLOCKS),
    "altmap": ALTMAP,
    **dict.fromkeys(("policies", "policy", "online_policy", "auto-movable"), POLICIES),
    "offline": OFFLINE,
    **dict.fromkeys(("sizes", "size"), SIZES),
    **dict.fromkeys(("numactl", "numa", "migratepages"), NUMACTL),
    "sysctl": SYSCTL,
    **dict.fromkeys(("util-linux", "sclp", "standby"), UTIL_LINUX),
    **dict.fromkeys(("ci", "test", "junit", "pytest", "run"), CI),
    **dict.fromkeys(("review", "checks", "patch"), REVIEW),
    **dict.fromkeys(("daxctl", "ndctl", "dax", "pmem", "cxl"), DAXCTL),
    **dict.fromkeys(("drmgr", "dlpar", "lmb"), DRMGR),
    **dict.fromkeys(("hv_balloon", "hyperv", "hyper-v"), HV),
    "xen": XEN,
    **dict.fromkeys(("virsh", "qemu", "libvirt", "pc-dimm", "dimm"), VIRSH),
    **dict.fromkeys(("sysfs", "/sys", "echo", "tee", "for"), SYSFS),
    **dict.fromkeys(("crash", "drgn", "kmem", "dmesg", "journalctl"), CRASH),
}


def topic_text(word: str, width: int = 0) -> str | None:
    """Return what there is to say of *word*, in lines of at most *width* columns, or None."""
    topic = TOPICS.get("/sys" if word.startswith("/sys/") else word.lower())
    if topic is None:
        return None
    room = min(width or 100, 100)
    wide = max(len(there) for there, _ in topic.lines)
    beside = 4 + wide + 2 + max(len(here) for _, here in topic.lines) <= room
    lines = [
        f"    {there:<{wide}}  {here}" if beside else f"    {there}\n        {here}" for there, here in topic.lines
    ]
    return "\n".join([*wrap(topic.text, room, break_on_hyphens=False), "", *lines, ""])
