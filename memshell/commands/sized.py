"""``use ARCH vmlinux=FILE``: what a machine takes from a kernel image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from memshell.commands.image import Loaded, load
from memshell.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from memshell.arch import Arch

STRUCT_PAGE_SIZES = range(56, 97, 8)  # include/linux/mm.h:__mm_zero_struct_page
ORDERS = {"max_order": "orders to {}", "pageblock_order": "pageblock order {}"}


@dataclass(slots=True)
class Sized:
    """What a machine takes from an image: constants of the architecture, and words that tell it."""

    loaded: Loaded
    options: dict[str, str]
    constants: dict[str, int] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The file."""
        return self.loaded.facts.file

    def fact(self, name: str) -> int | None:
        """A number that was read from the file; None for a default and for what is not known."""
        fact = self.loaded.facts.facts[name]
        return fact.value if fact.read and isinstance(fact.value, int) else None

    def option(self, key: str, value: str, text: str) -> bool:
        """Set an option of ``use``; what is given by hand stays. Return whether the file's value holds."""
        given = self.options.setdefault(key, value)
        if given == value:
            self.taken.append(text)
        else:
            self.given.append(f"{key}={given} (in the file: {value})")
        return given == value

    def constant(self, name: str, value: int, text: str) -> None:
        """Set a constant of the architecture."""
        self.constants[name] = value
        self.taken.append(text)

    def __str__(self) -> str:
        release = self.loaded.facts.release or "release not in the file"
        line = f"from {self.path} ({release}): {', '.join(self.taken) or 'nothing'}"
        return f"{line}; given by hand: {', '.join(self.given)}" if self.given else line


def size_by_image(arch: Arch, options: dict[str, str], arches: Mapping[str, Arch]) -> Sized:
    """Read the image that *options* name, and put the options that follow from it in its place.

    What is given by hand wins, and a fact that was not read changes nothing.  Raises ImageError for a file
    that is no kernel, or not one of *arch*.
    """
    sized = Sized(load(options.pop("vmlinux")), options)
    _check_arch(sized, arch, arches)
    _struct_page(sized, arch)
    if _page(sized, arch):
        for name, text in ORDERS.items():
            value = sized.fact(name)
            if value is not None:
                sized.constant(name, value, text.format(value))
    _sections(sized)
    _profile(sized)
    _configuration(sized)
    return sized


def _check_arch(sized: Sized, arch: Arch, arches: Mapping[str, Arch]) -> None:
    machine = sized.loaded.facts.arch
    if machine is None or arch.is_machine(machine):
        return
    fitting = [name for name, other in arches.items() if other.is_machine(machine)]
    hint = f"use {fitting[0]} vmlinux={sized.path}" if fitting else "no plugin plays that architecture"
    raise ImageError(f"{sized.path}: a kernel of {machine}, not of {arch.name}", hint=hint)


def _struct_page(sized: Sized, arch: Arch) -> None:
    size = sized.fact("sizeof_struct_page")
    if size is None:
        return
    if size not in STRUCT_PAGE_SIZES:
        hint = "56 to 96, a multiple of 8; is its type information not relocated?"
        raise ImageError(f"{sized.path}: a struct page of {size} bytes cannot be", hint=hint)
    if arch.has_option("struct_page"):
        sized.option("struct_page", str(size), f"struct page {size}")
    else:
        sized.constant("struct_page_size", size, f"struct page {size}")


def _page(sized: Sized, arch: Arch) -> bool:
    """Take the page size; return whether the machine has it, for the orders of the file belong to it."""
    from memshell.mm.pfn import format_size

    size = sized.fact("page_size")
    if size is None:
        return True
    if arch.has_option("page"):
        return sized.option("page", format_size(size), f"pages of {format_size(size)}")
    if size != arch.page_size:
        problem = f"pages of {format_size(size)}, and {arch.name} has {format_size(arch.page_size)}"
        raise ImageError(f"{sized.path}: {problem}")
    sized.taken.append(f"pages of {format_size(size)}")
    return True


def _sections(sized: Sized) -> None:
    from memshell.mm.pfn import format_size

    bits = sized.fact("section_size_bits")
    if bits is not None:
        sized.constant("section_size_bits", bits, f"sections of {format_size(1 << bits)}")
    section = sized.loaded.facts.structs.get("mem_section")
    if section is not None:
        sized.constant("mem_section_size", section.size, f"mem_section {section.size}")


def _profile(sized: Sized) -> None:
    from memshell.mm.profile import RELEASES
    from memshell.profiles import profile_of_release

    release = sized.loaded.facts.release
    if release is None:
        return
    name = profile_of_release(release)
    if name is not None:
        older = "" if release.startswith(name[1:]) else ", the newest that is not newer"
        sized.option("profile", name, f"profile {name}{older}")
    elif "profile" in sized.options:
        sized.given.append(f"profile={sized.options['profile']} (in the file: {release}, older than any)")
    else:
        hint = f"profile={RELEASES[0]} plays the oldest that is known"
        raise ImageError(f"{sized.path}: no profile is as old as {release}", hint=hint)


def _configuration(sized: Sized) -> None:
    """Take what the configuration in the image or beside it builds in, and the parameters that it chooses."""
    from memshell.mm.kconfig import SWITCHES, built_in, defaults
    from memshell.vmlinux.facts import find_config

    found = find_config(sized.loaded.image)
    if found is None:
        return
    config = found.values
    options = {feature: option for option, feature in SWITCHES.items()}
    for name, there in built_in(config).items():
        if not there:
            sized.option(name, "off", f"no CONFIG_{options[name]}")
    if "auto_online" in sized.options:
        sized.options["auto_online_blocks"] = sized.options.pop("auto_online")
    for name, (option, value) in defaults(config).items():
        sized.option(name, value, f"{name} {value} by CONFIG_{option}")
