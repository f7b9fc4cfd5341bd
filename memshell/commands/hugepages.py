"""The command that sizes the pools of huge pages: ``hugepages``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memshell.errors import UsageError
from memshell.result import Column, Result
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import NODE

if TYPE_CHECKING:
    from argparse import Namespace

    from memshell.mm.state import Mm
    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell


def _sizes(shell: Shell, _prefix: str) -> Suggestions:
    if shell.machine is not None:
        from memshell.mm.hugetlb.pool import pool_shifts
        from memshell.mm.pfn import format_size

        yield from ((f"{format_size(1 << shift)}=", "huge pages") for shift in pool_shifts(shell.machine.mm))


def _pool(word: str, shell: Shell) -> tuple[int, int]:
    """Read ``2M=200`` into the order of the pool and the number of pages."""
    from memshell.mm.hugetlb.boot import checked_order

    size, equals, count = word.partition("=")
    if not equals or not (count.isascii() and count.isdecimal()):
        raise UsageError(f"{word!r} is not of the form SIZE=N", hint="such as 2M=200")
    return checked_order(shell.need_machine().mm, size, "hugepages"), int(count)


POOL = ArgType("SIZE=N", _pool, _sizes)


@command(
    "memory",
    arg("pool", POOL, "the size of the pages and how many there are to be; without it, list the pools", nargs="?"),
    arg("node=", NODE, "of this node alone; without it, all nodes share them"),
    examples="""
> use x86_64 ram=4G
x86_64, <...>
> hugepages 2M=200
2M: 200 huge pages, 200 free
> add 2G
2G at <...>
memmap <...>
> online memory48-63 movable
memory48-63 <...>
> hugepages 2M=300
2M: 300 huge pages, 300 free
> hugepages
SIZE NODE TOTAL FREE SURPLUS ZONES
  2M    0   300  300       0 Normal 200, Movable 100
""",
)
def hugepages(shell: Shell, args: Namespace) -> Result | str:
    """Size a pool of huge pages at run time, as writing to nr_hugepages does.

    Pages of up to the largest order come from the buddy, from ZONE_MOVABLE first where the architecture can migrate
    huge pages. Gigantic pages (1G on x86_64) are made of a range that is free or can be migrated away, in a kernel
    zone; with ``set movable_gigantic_pages=1`` (v7.0) in ZONE_MOVABLE too. What cannot be had is not an error: the
    pool is smaller then. Pages in use cannot be taken away: they are surplus until they are freed.

    Memory that goes offline takes free huge pages along, silently: the pool shrinks. Used ones are migrated, to a
    free page of the pool or to a new one; a used gigantic page only to a free one of the pool.
    """
    if args.pool is None:
        return _pools(shell.need_machine().mm)
    from memshell.mm.hugetlb.pool import nr_hugepages_store

    order, count = args.pool
    with shell.change() as mm:
        nr_hugepages_store(mm, order, count, args.node)
        return _line(mm, order, count, args.node)


def _line(mm: Mm, order: int, wanted: int, nid: int | None) -> str:
    from memshell.mm.hugetlb.pool import counts
    from memshell.mm.pfn import format_size

    found = {node: pages for node, pages in counts(mm, order).items() if nid in (None, node)}
    total, free = sum(t for t, _ in found.values()), sum(f for _, f in found.values())
    surplus = sum(pages for node, pages in mm.hstates[order].surplus if nid in (None, node))
    where = "" if nid is None else f" on node {nid}"
    more = f", {surplus} surplus" if surplus else ""
    short = f"; {wanted - total} could not be had" if total < wanted else ""
    return f"{format_size(mm.arch.page_size << order)}: {total} huge pages{where}, {free} free{more}{short}"


def _pools(mm: Mm) -> Result:
    from memshell.mm.hugetlb.pool import counts
    from memshell.mm.pfn import format_size

    rows: list[dict[str, Any]] = []
    for order, pool in sorted(mm.hstates.items()):
        for nid, (total, free) in sorted({0: (0, 0), **counts(mm, order)}.items()):
            rows.append(
                {
                    "size": format_size(mm.arch.page_size << order),
                    "node": nid,
                    "total": total,
                    "free": free,
                    "surplus": pool.surplus_of(nid),
                    "zones": _zones(mm, order, nid),
                }
            )
    if not rows:
        return Result(text="no pool of huge pages was asked for", data=[])
    numbers = [Column(name, right=True) for name in ("SIZE", "NODE", "TOTAL", "FREE", "SURPLUS")]
    return Result(rows=rows, columns=(*numbers, Column("ZONES", drop=1)))


def _zones(mm: Mm, order: int, nid: int) -> str:
    from memshell.mm.hugetlb.folio import folios

    found: dict[str, int] = {}
    for run in folios(mm):
        if run.order == order and run.page.nid == nid:
            found[run.page.zone.label] = found.get(run.page.zone.label, 0) + run.nr
    return ", ".join(f"{name} {pages}" for name, pages in found.items())
