"""A random user of a machine: hypothesis draws what is done, and finds the fewest steps that break it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memshell.conformance_trial import STATES, Action, Broken, Trial, add, change, remove
from memshell.errors import UsageError
from memshell.mm.page import Owner
from memshell.mm.page_alloc.allocation import alloc_bulk
from memshell.mm.programs import allocations, free_bulk

if TYPE_CHECKING:
    from memshell.mm.state import Mm

BLOCKS, STEPS = 6, 20
FAULTS = ("sparse_index_init", "section_usage", "add_memory_block", "MEM_GOING_ONLINE", "MEM_GOING_OFFLINE")


def random_user(trial: Trial, examples: int) -> Broken | None:
    """Let a random user play *examples* times; return what broke, after the fewest steps that break it.

    Always draws the same: a plugin passes or fails, it does not flicker. UsageError: hypothesis is missing.
    """
    try:
        from hypothesis import HealthCheck, Phase, Verbosity, settings
        from hypothesis.stateful import run_state_machine_as_test
    except ModuleNotFoundError as error:
        raise UsageError(
            "the conformance kit needs hypothesis",
            hint="pip install 'memshell-mm[testing]', or examples=0 to go without",
        ) from error
    chosen = settings(
        max_examples=examples, stateful_step_count=STEPS, derandomize=True, database=None, deadline=None,
        report_multiple_bugs=False, print_blob=False, verbosity=Verbosity.quiet,
        phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    try:
        run_state_machine_as_test(_user_of(trial), settings=chosen)
    except Broken as broken:
        return broken
    return None


def _user_of(trial: Trial) -> Any:
    from hypothesis import strategies as st
    from hypothesis.stateful import RuleBasedStateMachine, rule

    block = st.integers(trial.first, trial.first + BLOCKS - 1)
    count = st.integers(1, 3)
    node = st.sampled_from(trial.mm.arch.possible_nodes[:2])

    class User(RuleBasedStateMachine):
        """A user who tries anything; an errno is an answer."""

        def __init__(self) -> None:
            super().__init__()
            self.mm = trial.mm
            self.path: tuple[str, ...] = ()

        def do(self, action: Action) -> None:
            self.mm, _done = trial.step(self.mm, action, self.path)
            self.path += (action.text,)

        @rule(number=block, count=count, nid=node)
        def add(self, number: int, count: int, nid: int) -> None:
            self.do(add(self.mm, number, count, nid))

        @rule(number=block, state=st.sampled_from(["online", *STATES, "offline"]))
        def change(self, number: int, state: str) -> None:
            self.do(change(number, state))

        @rule(number=block, count=count)
        def remove(self, number: int, count: int) -> None:
            self.do(remove(self.mm, number, count))

        @rule(order=st.integers(0, 9), share=st.integers(1, 4), movable=st.booleans())
        def alloc(self, order: int, share: int, movable: bool) -> None:
            self.do(alloc(self.mm, order, share, movable))

        @rule()
        def free(self) -> None:
            for tag in allocations(self.mm):
                self.do(free(tag))

        @rule(name=st.sampled_from(FAULTS), at=st.integers(1, 3))
        def fault(self, name: str, at: int) -> None:
            self.do(Action(f"fault {name} at={at}", lambda mm: mm.faults.update({name: at})))

    return User


def free(tag: int) -> Action:
    """Return the action that frees an allocation."""
    return Action(f"free {tag}", lambda mm: free_bulk(mm, tag))


def alloc(mm: Mm, order: int, share: int, movable: bool) -> Action:
    """Return the action that takes *share* quarters of the free memory in pieces of *order*."""
    left = sum(zone.free for zone in mm.zones.values())
    pieces = max(left * share >> 2 + order, 1)
    tag = max(allocations(mm), default=0) + 1
    kind, owner = ("movable", Owner.USER) if movable else ("unmovable", Owner.KERNEL)
    size = (pieces << order) * mm.arch.page_size >> 10
    text = f"alloc {size}K {kind} order={order}"
    return Action(text, lambda mm: alloc_bulk(mm, pieces, order, owner, movable=movable, tag=tag))
