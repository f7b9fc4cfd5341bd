"""Which hardware a scenario asks for, and the QEMU arguments that make it, by architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from memshell.errors import CommandError
from memshell.mm.pfn import MiB, align_up

GiB = 1 << 30
SLOTS, MOST_SLOTS = 32, 256  # the latter is QEMU's own limit


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine as ``use`` describes it.  Sizes in bytes; *words* go on the kernel's command line."""

    arch: str
    ram: int
    nodes: int = 1
    room: int = 14 * GiB  # what can be plugged
    slots: int = SLOTS
    cpu: tuple[str, ...] = ()  # switches of the processor
    words: tuple[str, ...] = ()
    virtio_mem: int = 0  # the region of a virtio-mem device, 0 for none
    virtio_at: int = 0
    virtio_node: int = 0
    virtio_block: int = 2 * MiB  # the device's own blocks

    @property
    def maxmem(self) -> int:
        """The end of what can be plugged: whole GiB."""
        return align_up(self.ram + self.room + self.virtio_mem, GiB)


@dataclass(frozen=True, slots=True)
class Board:
    """How QEMU makes a machine of one architecture.  *console* is the kernel's, *tty* the port of the guest's shell."""

    arch: str
    qemu: str
    machine: str
    cpu: str
    console: str
    tty: str
    package: str  # of Debian
    firmware: tuple[str, ...] = ()
    dimms: bool = True
    words: tuple[str, ...] = ()
    serial: tuple[str, ...] = field(default=("-serial", "chardev:console", "-serial", "chardev:agent"))
    busybox: str = ""  # where a foreign one is

    def cmdline(self, hardware: Hardware) -> str:
        """Return the kernel's command line."""
        usual = (f"console={self.console}", "ignore_loglevel", "panic=-1", "oops=panic", "log_buf_len=1M")
        return " ".join([*usual, *self.words, *hardware.words])

    def arguments(self, hardware: Hardware, kernel: Path, initrd: Path, folder: Path, accel: str) -> list[str]:
        """Return the command line of QEMU."""
        cpu = ",".join([self.cpu, *hardware.cpu]) if self.cpu else ""
        memory = f"size={hardware.ram // MiB}M"
        if self.dimms or hardware.virtio_mem:
            memory += f",slots={hardware.slots},maxmem={hardware.maxmem // MiB}M"
        return [
            *(self.qemu, "-M", self.machine, "-accel", accel),
            *(("-cpu", cpu) if cpu else ()),
            *("-m", memory, "-smp", "1", "-nodefaults", "-display", "none", "-no-reboot", *self.firmware),
            *self._nodes(hardware),
            *("-kernel", str(kernel), "-initrd", str(initrd), "-append", self.cmdline(hardware)),
            *("-chardev", f"file,id=console,path={folder}/console.log"),
            *("-chardev", f"socket,id=agent,path={folder}/agent,server=on,wait=off"),
            *self.serial,
            *("-qmp", f"unix:{folder}/qmp,server=on,wait=off"),
            *self._virtio_mem(hardware),
        ]

    def _nodes(self, hardware: Hardware) -> list[str]:
        """Node 0 has the memory of boot and the processor, as in the model; the others are empty."""
        if hardware.nodes == 1:
            return []
        found = ["-object", f"memory-backend-ram,id=ram0,size={hardware.ram}"]
        for nid in range(hardware.nodes):
            found += ["-numa", f"node,nodeid={nid}" + (",memdev=ram0,cpus=0" if nid == 0 else "")]
        return found

    def _virtio_mem(self, hardware: Hardware) -> list[str]:
        if not hardware.virtio_mem:
            return []
        backend = f"memory-backend-ram,id=mvirtio,size={hardware.virtio_mem}"
        device = f"virtio-mem-pci,id=virtio,memdev=mvirtio,requested-size=0,memaddr={hardware.virtio_at}"
        device += f",block-size={hardware.virtio_block}"
        node = f",node={hardware.virtio_node}" if hardware.nodes > 1 else ""
        return ["-object", backend, "-device", device + node]


BOARDS: Mapping[str, Board] = {
    "x86_64": Board(
        "x86_64",
        "qemu-system-x86_64",
        "q35,smm=off,usb=off,vmport=off",
        "max",
        "ttyS0",
        "ttyS1",
        "qemu-system-x86",
        # Fixed addresses of the direct map and the vmemmap, and one set of page tables: read from outside.
        words=("nokaslr", "nopti", "no_timer_check"),  # the last: a host that is busy is not a broken timer
    )
}


def board_of(arch: str) -> Board:
    """Return how QEMU makes a machine of *arch*.  Raises CommandError where no lab has been built for it."""
    if arch not in BOARDS:
        raise CommandError(f"there is no lab for {arch}", hint="there is one for " + ", ".join(BOARDS))
    return BOARDS[arch]
