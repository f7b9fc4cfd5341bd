"""What ``help WORD`` says of the tools and drivers that people know: which command stands for them here."""

from __future__ import annotations

from typing import NamedTuple


class Topic(NamedTuple):
    """One word: what it is, and lines of what is typed there and here."""

    text: str
    lines: tuple[tuple[str, str], ...]


CHMEM = Topic(
    "util-linux: chmem sets blocks online and offline, lsmem lists them.",
    (
        ("lsmem", "lsmem"),
        ("chmem -e 0x100000000-0x107ffffff", "online 0x100000000-0x107ffffff"),
        ("chmem -e -z Movable -b 32-39", "online 32-39 movable"),
        ("chmem -d -b 40", "offline 40"),
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
    ),
)
SYSFS = Topic(
    "/sys/devices/system/memory: a block's state, the default online type, and the file probe.",
    (
        ("echo online_movable > memory32/state", "online 32 movable"),
        ("echo offline > memory32/state", "offline 32"),
        ("echo WORD > memory32/state, right or wrong", "write memory32/state WORD"),
        ("echo online > auto_online_blocks", "set auto_online_blocks=online"),
        ("echo 0x100000000 > probe", "add 0x100000000 128M via=probe"),
        ("cat memory32/valid_zones", "lsmem -o +ZONES"),
    ),
)
CRASH = Topic(
    "crash and drgn: look at a page, a section, the zones, the memmap.",
    (
        ("crash> kmem -p, drgn pfn_to_page(pfn)", "page 0x100000"),
        ("crash> kmem -n", "section 32"),
        ("crash> kmem -z", "zoneinfo"),
    ),
)

TOPICS: dict[str, Topic] = {
    **dict.fromkeys(("chmem", "util-linux"), CHMEM),
    **dict.fromkeys(("daxctl", "ndctl", "dax", "pmem", "cxl"), DAXCTL),
    **dict.fromkeys(("drmgr", "dlpar", "lmb"), DRMGR),
    **dict.fromkeys(("hv_balloon", "hyperv", "hyper-v"), HV),
    "xen": XEN,
    **dict.fromkeys(("virsh", "qemu", "libvirt", "pc-dimm", "dimm"), VIRSH),
    **dict.fromkeys(("sysfs", "/sys"), SYSFS),
    **dict.fromkeys(("crash", "drgn"), CRASH),
}


def topic_text(word: str) -> str | None:
    """Return what there is to say of *word*, or None."""
    topic = TOPICS.get(word.lower())
    if topic is None:
        return None
    wide = max(len(there) for there, _ in topic.lines)
    lines = [f"    {there:<{wide}}  {here}" for there, here in topic.lines]
    return "\n".join([topic.text, "", *lines, ""])
