"""chmem -c and -g (util-linux 2.42): memory blocks are configured and deconfigured."""

from __future__ import annotations

from argparse import Namespace

from memshell import TEXT, Command, CommandError, Mm, Shell, UsageError, arg, choice, command, memparse

from .sclp_mem import sclp_config_mem_store, sclp_memmap_on_memory_store, sclp_mems

WORDS = "memory16, 16-31, an address range, or a size such as 1G: the first that are not yet"
SWITCH = choice("memmap_on_memory", {"1": "the memmap on the block itself", "0": "from existing memory"})


@command(
    "hotplug",
    arg("blocks", TEXT, WORDS),
    arg("memmap_on_memory=", SWITCH, "where the memmap goes; as it was last without it"),
    examples="""
> use s390 ram=2G standby=1G profile=v7.2
s390, <...>
> configure 256M
configured memory16-17
> online 16-17 movable
memory16-17 online in Movable: 256M
> lsmem -o RANGE,SIZE,STATE,BLOCK,CONFIGURED,MEMMAP-ON-MEMORY
RANGE                                  SIZE   STATE BLOCK CONFIGURED MEMMAP-ON-MEMORY
0x0000000000000000-0x000000008fffffff  2.3G  online  0-17        yes               no
0x0000000090000000-0x00000000bfffffff  768M offline 18-23         no               no

Memory block size:                128M
Total online memory:              2.3G
Total offline memory:             768M
Memmap on memory parameter:         no
""",
)
def configure(shell: Shell, args: Namespace) -> str:
    """Configure standby memory, as ``chmem -c`` does (s390 since v6.19): its blocks can come online then.

    It writes to /sys/firmware/memory/memoryN; ``write`` does that file by file. What is configured already stays as it is.

    Errors: ENOENT for memory that the machine does not have, EOPNOTSUPP for memmap_on_memory=1 where the kernel does not
    support it, EBUSY for memmap_on_memory= of a block that is configured, EIO when the hypervisor refuses.
    """
    with shell.change() as mm:
        wanted = _blocks(mm, args.blocks, configured=True)
        for number in wanted:
            if args.memmap_on_memory is not None:
                sclp_memmap_on_memory_store(mm, number, value=args.memmap_on_memory == "1")
            sclp_config_mem_store(mm, number, config=True)
        return f"configured {_named(wanted)}"


@command(
    "hotplug",
    arg("blocks", TEXT, WORDS),
    examples="""
> use s390 ram=2G standby=1G profile=v7.2
s390, <...>
> configure 16-19
configured memory16-19
> deconfigure 17
deconfigured memory17
""",
)
def deconfigure(shell: Shell, args: Namespace) -> str:
    """Deconfigure memory that is offline, as ``chmem -g`` does (s390 since v6.19): the hypervisor has it back.

    Errors: ENOENT for memory that the machine does not have, EBUSY while a block is online.
    """
    with shell.change() as mm:
        wanted = _blocks(mm, args.blocks, configured=False)
        for number in wanted:
            sclp_config_mem_store(mm, number, config=False)
        return f"deconfigured {_named(wanted)}"


def _blocks(mm: Mm, word: str, *, configured: bool) -> list[int]:
    """Return the blocks that *word* names; of a size the first that can be changed, which are offline."""
    if mm.arch.name != "s390":
        raise CommandError(f"{mm.arch.name} has no standby memory", hint="use s390 standby=SIZE profile=v7.2")
    if word[-1:].isalpha() and word[:-1].isdecimal():
        count, rest = divmod(memparse(word), mm.block_size)
        if rest or not count:
            raise UsageError(f"{word} is not whole memory blocks", hint=f"a block has {mm.block_size >> 20}M")
        known = [
            n for n, (config, _) in (sclp_mems(mm) or {}).items() if config is not configured and _is_offline(mm, n)
        ]
        if len(known) < count:
            what = "deconfigured" if configured else "configured and offline"
            raise UsageError(f"only {len(known)} blocks are {what}", hint=f"{count} were asked for")
        return known[:count]
    first, dash, last = word.partition("-")
    low = _number(mm, first)
    return list(range(low, (_number(mm, last) if dash else low) + 1))


def _is_offline(mm: Mm, number: int) -> bool:
    return number not in mm.blocks or mm.blocks[number].state == "offline"


def _number(mm: Mm, word: str) -> int:
    plain = word.removeprefix("memory")
    if plain.isdecimal():
        return int(plain)
    try:
        return memparse(word) // mm.block_size
    except (UsageError, ValueError) as error:
        raise UsageError(f"{word!r} names no memory block", hint=WORDS) from error


def _named(numbers: list[int]) -> str:
    if not numbers:
        return "nothing"
    return f"memory{numbers[0]}" + (f"-{numbers[-1]}" if len(numbers) > 1 else "")


COMMANDS: tuple[Command, ...] = (configure, deconfigure)
