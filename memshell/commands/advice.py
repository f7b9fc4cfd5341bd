"""What a failure leaves behind, and what would help: said only where memshell has tried it on a branch of the state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memshell.views.obstacles import Held, held

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from memshell.mm.state import Mm
    from memshell.shell.shell import Shell


def works(shell: Shell, mm: Mm, lines: Iterable[str]) -> bool:
    """Whether the commands *lines*, typed on a machine in the state *mm*, all end well. Nothing of it stays."""
    from memshell.machine import Machine

    player = shell.player.fresh()
    player.shell.machine = Machine(mm)
    for line in lines:
        player.play_text(line, "advice")
        if player.failures:
            return False
    return True


def first_that_works(shell: Shell, mm: Mm, candidates: Iterable[list[str]]) -> str | None:
    """Return the first of *candidates* whose commands all end well, as one line; None without."""
    return next(("; ".join(lines) for lines in candidates if works(shell, mm, lines)), None)


def frees_block(shell: Shell, mm: Mm, block_id: int) -> str | None:
    """Return commands after which the block goes offline; None where none are known that work."""
    for lines in _offline_candidates(mm, block_id):
        if works(shell, mm, [*lines, f"offline {block_id}"]):
            return "; ".join(lines)
    return None


def _offline_candidates(mm: Mm, block_id: int) -> Iterator[list[str]]:
    pages = held(mm, block_id)
    stay = [one for one in pages if one.stays]
    lines = [line for one in _by_command(stay).items() for line in [f"{one[0]} {' '.join(map(str, one[1]))}"]]
    described = [one.whose.removeprefix("of memory") for one in stay if one.kind == "memmap" and not one.tag]
    if all(name[:1].isdecimal() for name in described) and all(one.tag or one.kind == "memmap" for one in stay):
        lines += [f"eject {name}" for name in described]
        if lines:
            yield lines
    movable = sum(one.pages for one in pages if one.kind == "movable")
    if movable and not stay:
        yield ["online offline kernel"]
        yield ["add 1G", "online offline kernel"]


def _by_command(stay: Iterable[Held]) -> dict[str, list[int]]:
    """Return which allocations are to be freed, and which unpinned."""
    found: dict[str, set[int]] = {}
    for one in stay:
        if one.tag:
            found.setdefault("unpin" if one.kind == "pinned" else "free", set()).add(one.tag)
    return {name: sorted(tags) for name, tags in sorted(found.items())}
