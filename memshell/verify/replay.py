"""Play a recorded step as text, through the parser and the player that everybody's text goes through."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from memshell.errors import KernelCrash, KernelError
from memshell.verify.actions import Bench, Typed, done, typed

if TYPE_CHECKING:
    from memshell.machine import Machine
    from memshell.shell.shell import Player


@dataclass(slots=True)
class Answer:
    """What the model says to one action: errno numbers; *each* by block; *played* False where it has nothing to say."""

    errno: int = 0
    each: dict[int, int] = field(default_factory=dict)
    played: bool = True
    settled: bool = True  # False: what the action began may still go on while the state is read
    quiet: bool = True  # False: what an earlier step began may have ended in this one, so changes say nothing


class Said(NamedTuple):
    """A line that was played: at which step, why, and what the modelled kernel answered."""

    step: int
    text: str
    why: str = ""  # empty for the action itself
    error: KernelError | KernelCrash | None = None


@dataclass(slots=True)
class Mark:
    """A point that a replay can go back to."""

    steps: int
    said: int
    bench: Bench
    probing: bool


@dataclass(slots=True)
class Replay:
    """A shell that plays a recording, with what the recorder plugged."""

    player: Player
    bench: Bench = field(default_factory=Bench)
    name: str = "recording"
    traced: bool = False  # record the call tree of every step, not only of those that have one to compare with
    probing: bool = False  # a driver was loaded; its device is being probed while the recorder looks
    said: list[Said] = field(default_factory=list)

    @property
    def machine(self) -> Machine:
        """The machine as it stands."""
        return self.player.shell.need_machine()

    def play(self, step: dict[str, Any]) -> Answer:
        """Play one step's action. Of the step itself only the action is looked at."""
        return self.act(step["n"], step["op"], step["action"])

    def act(self, n: int, op: dict[str, Any], what: str) -> Answer:
        """Play the action *op*, in the recorder's words *what*."""
        was_probing = self.probing
        action = Typed(known=False) if self.machine.mm.crashed else typed(self.bench, self.machine.mm, op, what)
        self.probing = action.probing
        answer = Answer(
            played=action.known or bool(self.machine.mm.crashed),
            settled=not action.probing,
            quiet=not (action.probing or was_probing),
        )
        for at, line in enumerate(action.lines):
            error = self.say(n, line)
            number = error.errno_number if error else 0
            answer.errno = answer.errno or number  # the step's own errno is that of the first write that failed
            if action.blocks:
                answer.each[action.blocks[at]] = number
        if not answer.errno and not self.machine.mm.crashed:
            done(self.bench, op)
        return answer

    def say(self, n: int, text: str, why: str = "") -> KernelError | None:
        """Play a line of text at step *n*; return the kernel's error. A dead machine hears nothing."""
        if self.machine.mm.crashed:
            return None
        failures = len(self.player.failures)
        self.player.play_text(text, self.name)
        failed = self.player.failures[failures:]
        cause = failed[0].__cause__ if failed else None
        if failed and not isinstance(cause, (KernelError, KernelCrash)):
            raise failed[0]
        for error in (*failed, cause) if cause is not None else ():
            error.with_traceback(None)  # its frames would keep states alive that nobody asks for
        answer = cause if isinstance(cause, (KernelError, KernelCrash)) else None
        self.said.append(Said(n, text, why, answer))
        return answer if isinstance(answer, KernelError) else None

    def mark(self) -> Mark:
        """Return this point, to come back to."""
        bench = replace(self.bench, dimms=self.bench.dimms.copy())
        return Mark(len(self.machine.steps), len(self.said), bench, self.probing)

    def back(self, mark: Mark) -> None:
        """Take everything since *mark* back."""
        count = len(self.machine.steps) - mark.steps
        if count:
            self.machine.undo(count)
        del self.said[mark.said :]
        self.bench, self.probing = replace(mark.bench, dimms=mark.bench.dimms.copy()), mark.probing

    def forget(self) -> None:
        """Let the machine go: a shell and its player know each other, so its states would wait for the collector."""
        self.player.shell.machine = None
