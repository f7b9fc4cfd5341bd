"""The command that boots the machine again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.shell.registry import command

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.shell.shell import Shell


@command(
    "machine",
    examples="""
> use x86_64 ram=2G auto_online=online_movable
x86_64, <...>
> virtio-mem 512M
plugged 512M of 512M<...>
> reboot
rebooted: memory32-35 online in Movable
""",
)
def reboot(shell: Shell, args: Namespace) -> str:
    """Boot the same kernel again, with the devices that are plugged.

    DIMMs are added again while it boots, in the order of their addresses; a virtio-mem device has all of its memory
    unplugged first and then plugs what was requested. The memory of a module, a driver or a write to probe is gone, and a dax
    device that was RAM has no driver. What ``set`` changed while the kernel ran is as ``use`` had it; profile and
    policy stay.
    """
    from memshell.commands.hotplug import named_states
    from memshell.drivers.reset import reset

    del args
    machine = shell.need_machine()
    with shell.change() as mm:
        failed = reset(mm, machine.steps[0].mm)
        blocks = named_states(mm, [number for number, block in mm.blocks.items() if not block.early])
        lines = [f"rebooted: {blocks}" if blocks else "rebooted: nothing is plugged"]
        return "\n".join([*lines, *failed])
