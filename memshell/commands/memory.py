"""The commands that use memory: ``alloc``, ``free``, ``pin``, ``unpin``, ``migrate``, ``hold``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memshell.errors import CommandError, UsageError, did_you_mean, nearest
from memshell.result import Column, Result
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import ADDRESS, INT, NODE, SIZE, choice

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.mm.page import Owner
    from memshell.mm.state import Mm
    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell

KINDS = {
    "movable": "a process's memory: offline can migrate it away",
    "unmovable": "the kernel's own: offline fails with EBUSY where it lies in a kernel zone",
    "slab": "the kernel's small objects: unmovable too; in single pages (order=0) offline finds them too late since v6.14",
    "atomic": "the same, taken in an interrupt: down to three eighths of the min watermark",
    "pinned": "movable memory with a reference that migration cannot drop",
    "ballooned": "PageOffline: a driver holds it, managed does not count it; it goes offline with its block",
}
KIND = choice("kind", KINDS)


def _owner(kind: str) -> Owner:
    from memshell.mm.page import Owner

    owners = {"movable": Owner.USER, "unmovable": Owner.KERNEL, "atomic": Owner.KERNEL}
    owners |= {"slab": Owner.SLAB_PAGE, "pinned": Owner.PINNED, "ballooned": Owner.OFFLINE}
    return owners[kind]


def _kind(owner: Owner) -> str:
    return next((kind for kind in KINDS if _owner(kind) is owner), owner.value)


def _tags(shell: Shell, _prefix: str) -> Suggestions:
    if shell.machine is not None:
        from memshell.mm.programs import allocations

        for tag, owners in allocations(shell.machine.mm).items():
            pages = sum(owners.values())
            yield str(tag), f"{pages} pages {' '.join(_kind(owner) for owner in owners)}"
    yield "all", "every allocation"


def _tag(word: str, shell: Shell) -> list[int]:
    from memshell.mm.programs import allocations

    known = allocations(shell.need_machine().mm)
    if word == "all":
        return list(known)
    if not word.isdecimal() or int(word) not in known:
        close = nearest(word, [*map(str, known), "all"])
        listed = "there are: " + ", ".join(map(str, known)) if known else "nothing is allocated"
        raise UsageError(f"there is no allocation {word!r}", hint=f"did you mean {close}?" if close else listed)
    return [int(word)]


TAGS = ArgType("ID", _tag, _tags)


@command(
    "memory",
    arg("size", SIZE, "how much; without it, list what is allocated", nargs="?"),
    arg("kind", KIND, "what may happen to it", nargs="?", default="movable"),
    arg("order=", INT, "allocate in blocks of 2^N pages", default=0),
    arg("node=", NODE, "the node to begin with", default=0),
    arg("at=", ADDRESS, "take exactly this place, which must be free"),
    arg("huge=", SIZE, "map huge pages of this size, from their pool"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> alloc 80M unmovable
alloc 1: 80M unmovable, node 0 DMA32 80M
> alloc 16M
alloc 2: 16M movable, node 0 DMA32 16M
> alloc
ID SIZE KIND      PAGES RUNS WHERE
 1  80M unmovable 20480    3 node 0 DMA32 80M
 2  16M movable    4096    1 node 0 DMA32 16M
""",
)
def alloc(shell: Shell, args: Namespace) -> Result | str:
    """Take memory, as a process or a driver would.

    Movable memory comes from ZONE_MOVABLE first, other memory from the highest kernel zone. Pages are taken
    one by one (order=0) from the smallest free blocks that do, with fallback to other migratetypes, down to
    the min watermark. The kinds are movable, unmovable, slab, atomic (unmovable, taken in an interrupt: down to
    three eighths of that watermark), pinned and ballooned. Pinned memory is held by a short-term reference; a
    long-term pin moves out of ZONE_MOVABLE first: use unmovable. ``huge=2M`` takes free pages of the pool that
    ``hugepages`` made, and ENOMEM says that there are too few.
    """
    mm = shell.need_machine().mm
    if args.size is None:
        return _allocations(mm)
    page = mm.arch.page_size
    if not args.size or args.size % page:
        raise UsageError(f"{args.size} bytes are not whole pages", hint=f"a page has {page} bytes")
    if not 0 <= args.order <= mm.arch.max_order:
        hint = f"orders go from 0 to {mm.arch.max_order}; larger pages are huge pages: help hugepages"
        raise UsageError(f"order={args.order} cannot be", hint=hint)
    if (args.size // page) % (1 << args.order):
        raise UsageError(f"{args.size // page} pages are not whole blocks of order {args.order}")
    with shell.change() as mm:
        return _allocate(mm, args)


def _allocate(mm: Mm, args: Namespace) -> str:
    from memshell.mm.page import UNMOVABLE_OWNERS, Owner
    from memshell.mm.page_alloc.allocation import alloc_bulk
    from memshell.mm.programs import adjust_managed_page_count, alloc_at, alloc_huge

    pages, owner = args.size // mm.arch.page_size, _owner(args.kind)
    if args.order and owner is Owner.SLAB_PAGE:
        owner = Owner.SLAB
    tag = mm.counters.get("allocations", 0) + 1
    if args.huge is not None:
        order = _huge_order(mm, args)
        alloc_huge(mm, order, pages >> order, owner, nid=args.node, tag=tag)
    elif args.at is not None:
        if args.at % mm.arch.page_size:
            raise UsageError(f"at={args.at:#x} is not the start of a page")
        alloc_at(mm, args.at // mm.arch.page_size, pages, owner, tag=tag)
    else:
        movable, atomic, count = owner not in UNMOVABLE_OWNERS, args.kind == "atomic", pages >> args.order
        alloc_bulk(mm, count, args.order, owner, nid=args.node, movable=movable, tag=tag, atomic=atomic)
    mm.counters["allocations"] = tag
    adjust_managed_page_count(mm, tag, -1)
    place = _where(mm, tag)
    mm.event(
        "PagesAllocated",
        "mm/page_alloc.c:__alloc_pages",
        f"alloc {tag}: {pages} pages {args.kind}, {place}",
        tag=tag,
        pages=pages,
    )
    from memshell.mm.pfn import format_size

    return f"alloc {tag}: {format_size(args.size)} {args.kind}, {place}"


def _huge_order(mm: Mm, args: Namespace) -> int:
    """Return the order of huge=. Raises `UsageError` for what cannot be of huge pages."""
    from memshell.mm.hugetlb.boot import checked_order
    from memshell.mm.pfn import format_size

    order = checked_order(mm, str(args.huge), "huge")
    if args.order or args.at is not None or args.kind not in ("movable", "pinned"):
        raise UsageError("huge pages are a program's, of their own order and wherever the pool has them")
    if (args.size // mm.arch.page_size) % (1 << order):
        raise UsageError(f"{args.size} bytes are not whole huge pages of {format_size(args.huge)}")
    return order


def _where(mm: Mm, tag: int) -> str:
    """Return the zones that hold an allocation, with how much each has."""
    from memshell.mm.programs import runs_of
    from memshell.views.lsmem import human

    zones: dict[str, int] = {}
    for start, end, page in runs_of(mm, tag):
        name = f"node {page.nid} {page.zone.label}"
        zones[name] = zones.get(name, 0) + end - start
    return ", ".join(f"{name} {human(pages << mm.arch.page_shift)}" for name, pages in zones.items())


def _allocations(mm: Mm) -> Result:
    from memshell.mm.pfn import format_size
    from memshell.mm.programs import allocations, runs_of

    rows: list[dict[str, Any]] = []
    for tag, owners in allocations(mm).items():
        pages = sum(owners.values())
        rows.append(
            {
                "id": tag,
                "size": format_size(pages << mm.arch.page_shift),
                "kind": " ".join(map(_kind, owners)),
                "pages": pages,
                "runs": len(runs_of(mm, tag)),
                "where": _where(mm, tag),
            }
        )
    if not rows:
        return Result(text="nothing is allocated", data=[])
    columns = (
        Column("ID", right=True),
        Column("SIZE", right=True),
        Column("KIND"),
        Column("PAGES", right=True),
        Column("RUNS", right=True),
        Column("WHERE", drop=1),
    )
    return Result(rows=rows, columns=columns)


_FUNCTIONS = {
    "freed": "mm/page_alloc.c:__free_pages",
    "pinned": "mm/gup.c:pin_user_pages",
    "unpinned": "mm/gup.c:unpin_user_pages",
    "migrated": "mm/migrate.c:migrate_pages",
}


def _changed(mm: Mm, kind: str, tags: list[int], pages: int) -> str:
    from memshell.mm.pfn import format_size

    names = ", ".join(map(str, tags))
    mm.event(f"Pages{kind.capitalize()}", _FUNCTIONS[kind], f"alloc {names}: {pages} pages", pages=pages)
    return f"alloc {names}: {format_size(pages << mm.arch.page_shift)} {kind}"


@command(
    "memory",
    arg("ids", TAGS, "the numbers that alloc gave, or all", nargs="*", default=()),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> alloc 80M
alloc 1: 80M movable, node 0 DMA32 80M
> free 1
alloc 1: 80M freed
""",
)
def free(shell: Shell, args: Namespace) -> str:
    """Give allocated memory back, wherever it is by now."""
    from memshell.mm.programs import free_bulk

    if args.ids == ():
        raise UsageError("free which allocation?", hint="alloc lists them; print free shows how much is free")
    if not args.ids:
        return "nothing is allocated"
    with shell.change() as mm:
        return _changed(mm, "freed", args.ids, sum(free_bulk(mm, tag) for tag in args.ids))


def _pinning(shell: Shell, tags: list[int], *, pinned: bool) -> str:
    from memshell.mm.programs import set_pinned

    with shell.change() as mm:
        pages = sum(set_pinned(mm, tag, pinned=pinned) for tag in tags)
        if not pages:
            names, kind = ", ".join(map(str, tags)), "movable" if pinned else "pinned"
            raise CommandError(f"alloc {names} has no {kind} pages")
        return _changed(mm, "pinned" if pinned else "unpinned", tags, pages)


@command(
    "memory",
    arg("ids", TAGS, "the numbers that alloc gave, or all", nargs="+"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> alloc 4M
alloc 1: 4M movable, node 0 DMA32 4M
> pin 1
alloc 1: 4M pinned
""",
)
def pin(shell: Shell, args: Namespace) -> str:
    """Take a reference on movable memory that migration cannot drop.

    Offline of its block retries until a signal: EINTR.
    """
    return _pinning(shell, args.ids, pinned=True)


@command(
    "memory",
    arg("ids", TAGS, "the numbers that alloc gave, or all", nargs="+"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> alloc 4M pinned
alloc 1: 4M pinned, node 0 DMA32 4M
> unpin 1
alloc 1: 4M unpinned
""",
)
def unpin(shell: Shell, args: Namespace) -> str:
    """Drop the reference that pin took."""
    return _pinning(shell, args.ids, pinned=False)


@command(
    "memory",
    arg("ids", TAGS, "the numbers that alloc gave, or all", nargs="+"),
    arg("node=", NODE, "where to", default=0),
    examples="""
> use x86_64 ram=2G nodes=2
x86_64, <...>
> add 1G node=1
1G at 0x100000000-0x13fffffff, node 1: memory32-39 offline
memmap from existing memory; free -16M (4096 pages)
16M of the memmap is on node 0
> online memory32 movable
memory32 <...>
> alloc 4M
alloc 1: 4M movable, node 0 DMA32 4M
> migrate 1 node=1
alloc 1: 4M migrated
""",
)
def migrate(shell: Shell, args: Namespace) -> str:
    """Move movable memory to a node, as ``migratepages`` does.

    ENOMEM when the node has no room: nothing moves then.
    """
    from memshell.mm.page import Owner
    from memshell.mm.page_alloc.allocation import alloc_bulk, free_range
    from memshell.mm.programs import migrate_huge, runs_of

    with shell.change() as mm:
        moved = 0
        for tag in args.ids:
            runs = [(a, b) for a, b, page in runs_of(mm, tag) if page.owner is Owner.USER and page.nid != args.node]
            pages = sum(b - a for a, b in runs)
            if runs and mm.hugetlb.get(runs[0][0]) is not None:
                moved += migrate_huge(mm, tag, args.node)
                continue
            alloc_bulk(mm, pages, 0, Owner.USER, nid=args.node, movable=True, tag=tag, nodes=(args.node,))
            for start, end in runs:
                free_range(mm, start, end)
            moved += pages
        return _changed(mm, "migrated", args.ids, moved)


# --- what runs on a machine ---


def _held(word: str, shell: Shell) -> list[tuple[int, int, Owner, int]]:
    """Read ``OWNER=PFN,PFN-PFN``, or ``huge:2M=PFN-PFN``."""
    from memshell.mm.held import HOLDERS, HUGE_HOLDERS

    name, _equals, ranges = word.partition("=")
    kind, colon, size = name.partition(":")
    if not ranges or (kind not in HUGE_HOLDERS if colon else name not in HOLDERS):
        known = [*HOLDERS, *(f"{huge}:2M" for huge in HUGE_HOLDERS)]
        hint = did_you_mean(name, known) or f"OWNER=PFN or OWNER=FIRST-LAST, the owner one of {', '.join(known)}"
        raise UsageError(f"{word!r} says nobody's pages", hint=hint)
    owner, order = (HUGE_HOLDERS[kind], _order_of(size, shell)) if colon else (HOLDERS[name], 0)
    return [(*_pfns(part), owner, order) for part in ranges.split(",")]


def _order_of(word: str, shell: Shell) -> int:
    from memshell.mm.hugetlb.boot import checked_order

    return checked_order(shell.need_machine().mm, word, "huge")


def _pfns(word: str) -> tuple[int, int]:
    first, dash, last = word.partition("-")
    try:
        start, end = int(first, 0), int(last if dash else first, 0) + 1
    except ValueError as error:
        raise UsageError(f"{word!r} is no page frame number", hint="such as 0x100200 or 0x100200-0x1003ff") from error
    if start >= end:
        raise UsageError(f"{word!r} ends before it begins")
    return start, end


def _holders(_shell: Shell, _prefix: str) -> Suggestions:
    from memshell.mm.held import HOLDERS, HUGE_HOLDERS

    yield from ((f"{name}=", "PFN or FIRST-LAST, more behind commas") for name in HOLDERS)
    yield from ((f"{name}:2M=", "FIRST-LAST, whole huge pages") for name in HUGE_HOLDERS)


@command(
    "memory",
    arg("held", ArgType("OWNER=PFNS", _held, _holders), "who has which page frames, as kernel=0x100200", nargs="+"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> add 128M
128M at <...>
memmap <...>
> online 32
memory32 online in Normal: 128M
> hold kernel=0x102000 user=0x104000-0x1047ff
2049 pages have another owner
> ! offline 32
failed as it should: <...>
> hold free=0x102000
1 page has another owner
> offline 32
memory32 offline: 128M
""",
)
def hold(shell: Shell, args: Namespace) -> str:
    """Say what runs on the machine: who has which pages, as /proc/kpageflags and /proc/kpagecount would show it.

    The owners: free (the buddy), user (movable: the LRU), pinned (movable, with a reference that stays),
    kernel, slab, slab_page (a slab of a single page), pagetable (these keep a block from going offline) and offline
    (PageOffline); huge:2M and huge_user:2M are whole huge pages of a pool, free or a program's. What is not named stays as
    it is.  Where the model has a page of a memmap, or a page table, on a page that somebody
    else is said to have, it moves to another page of the kernel's.
    """
    from memshell.mm.held import hold as hold_pages

    with shell.change() as mm:
        pages = hold_pages(mm, args.held)
        mm.event("PagesHeld", "mm/page_alloc.c:__alloc_pages", f"{pages} pages have another owner", pages=pages)
        return "1 page has another owner" if pages == 1 else f"{pages} pages have another owner"
