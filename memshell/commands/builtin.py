"""memshell's own commands: those of its families, a module each."""

from __future__ import annotations

from memshell.commands import (
    branches,
    checkup,
    compare,
    device,
    experiment,
    export,
    hotplug,
    hugepages,
    image,
    machine,
    memory,
    plan,
    plot,
    reboot,
    series,
    session,
    show,
    sweep,
    sysfs,
    truth,
    util_linux,
    why,
)
from memshell.commands import help as help_
from memshell.shell.registry import Command

MODULES = (
    machine,
    reboot,
    hotplug,
    sysfs,
    device,
    memory,
    hugepages,
    show,
    sweep,
    plot,
    why,
    util_linux,
    image,
    experiment,
    compare,
    plan,
    series,
    session,
    branches,
    truth,
    checkup,
    export,
    help_,
)
COMMANDS = tuple(item for module in MODULES for item in vars(module).values() if isinstance(item, Command))
