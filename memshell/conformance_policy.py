"""What can be read off a policy, and what it answers: to every question that an experiment may ask it."""

from __future__ import annotations

import datetime as dt
import gc
import os
import random
import re
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from memshell.errors import PluginError
from memshell.mm.memory_hotplug.memmap_on_memory import check_placement, memmap_request, refusal_of
from memshell.mm.pfn import format_size
from memshell.profiles import is_profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType

    from memshell.conformance_trial import Trial
    from memshell.mm.state import Mm
    from memshell.policy import MemmapRequest, Placement, Policy


def form_faults(policy: Any) -> Iterator[str]:
    """Yield what is wrong with the object itself."""
    for name, why in (
        ("name", "what `policy NAME` takes"),
        ("summary", "the line that `policy` shows"),
        ("parameter", "what memmap_on_memory reads"),
    ):
        value = getattr(policy, name, None)
        if not isinstance(value, str) or not value:
            yield f"{name} has to be a text ({why}), it is {value!r}"
        elif name != "summary" and not re.fullmatch(r"[\w.-]+", value):
            yield f"{name} has to be one word ({why}), it is {value!r}"
        elif name == "name" and is_profile(value):
            yield f"name is {value!r}, which is a kernel's: `use` would not know which is meant"
    if not callable(getattr(policy, "place_memmap", None)):
        yield "there is no method place_memmap(request)"


def taken(policy: Policy, installed: Mapping[str, Policy]) -> Iterator[str]:
    """Yield when another policy has the name, or the value of the parameter, already."""
    for other in installed.values():
        if type(other).__name__ == type(policy).__name__:
            continue  # it is this one, installed
        if other.name == policy.name:
            yield f"name is {policy.name!r}, which is taken: {type(other).__module__} has a policy of that name"
        elif other.parameter.lower() == policy.parameter.lower():
            yield f"parameter is {policy.parameter!r}, which is that of the policy {other.name}"


class Question(NamedTuple):
    """A request, and why the kernel would refuse to keep a memmap on the memory; "" where it would not."""

    request: MemmapRequest
    refusal: str = ""


def answer_faults(policy: Policy, trial: Trial) -> Iterator[tuple[str, str]]:
    """Ask the policy about ranges that an experiment may add, and yield what is wrong with its answers."""
    mm = trial.mm.copy()
    for question in _questions(mm):
        request = question.request
        where = f"{trial.title}\nasked about {_told(request)}"
        before = repr(request)
        try:
            with Looks() as looks:
                first = policy.place_memmap(request)
            second = policy.place_memmap(request)
            check_placement(mm, first)
        except PluginError as error:
            yield error.message, where
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is a stranger's
            yield f"place_memmap raised {type(error).__name__}: {error}", where
        else:
            for what in looks.seen:
                yield f"place_memmap() calls {what}: the answer has to follow from the request alone", where
            for sentence in _answer(question, first, second):
                yield sentence, where
        if repr(request) != before:
            yield "it changed the request that it was given", where


def _answer(question: Question, first: Placement, second: Placement) -> Iterator[str]:
    if first != second:
        yield f"the same question got two answers: {first}, then {second}"
    if len(set(first.nodes)) != len(first.nodes):
        yield f"nodes names a node twice: {first.nodes}"
    if first.reserve_pages and first.refusal:
        yield f"it keeps {first.reserve_pages} pages and says why it does not: {first.refusal}"
    if first.reserve_pages and question.refusal:
        yield f"it keeps {first.reserve_pages} pages of each block, and {question.refusal}"


def _questions(mm: Mm) -> Iterator[Question]:
    """Yield the questions: small and large ranges, offered and not, on each node, old and new, with nothing free too."""
    nodes = sorted({*mm.nodes, *mm.arch.possible_nodes[:4]})
    for nid in nodes:
        for blocks in (1, 2, 64):
            for offered in (True, False):
                request = memmap_request(mm, nid, 1 << 40, blocks * mm.block_size, offered=offered)
                refusal = refusal_of(request)
                yield Question(request, refusal)
                empty = tuple((node, kind, 0) for node, kind, _ in request.free_by_zone)
                yield Question(
                    replace(request, free_pages=tuple((n, 0) for n, _ in request.free_pages), free_by_zone=empty),
                    refusal,
                )
    request = memmap_request(mm, nodes[0], 1 << 40, mm.block_size, offered=True)
    for changed in (replace(request, arch_refusal="arch: no"), replace(request, config=False)):
        yield Question(changed, refusal_of(changed))


def _told(request: MemmapRequest) -> str:
    size, block = format_size(request.size), format_size(request.block_size)
    rest = f"offered={request.offered}, free pages {request.free_pages}"
    return f"{size} on node {request.nid}, blocks of {block}, {rest}"


class Looks:
    """Notes what is called that differs from one time to the next: clocks, chance, files, the environment."""

    WORLD = (open, os.getpid, os.urandom)

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __enter__(self) -> Self:
        self._before, self._collects = sys.getprofile(), gc.isenabled()
        gc.disable()  # others have callbacks that look at the clock when it runs
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_exc: object) -> None:
        sys.setprofile(self._before)
        if self._collects:
            gc.enable()

    def _look(self, frame: FrameType, event: str, called: Any) -> None:
        if event == "c_call":
            owner = getattr(called, "__self__", None)
            clock = owner is time or owner in (dt.datetime, dt.date)
            if clock or isinstance(owner, random.Random) or called in self.WORLD:
                name = getattr(owner, "__name__", type(owner).__name__)
                self.seen.append(f"{name}.{called.__name__}()")
        elif event == "call" and frame.f_globals.get("__name__") in ("random", "os"):
            self.seen.append(f"{frame.f_globals['__name__']}.{frame.f_code.co_name}()")
