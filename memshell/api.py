"""The Python API: `Machine`, for scripts and notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from memshell import machine
from memshell.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from memshell.arch import Arch
    from memshell.drivers.base.memory.blocks import MemoryBlock
    from memshell.mm.events import Event
    from memshell.mm.mmzone import Zone
    from memshell.mm.state import Mm
    from memshell.plugins import Plugins


class Session:
    """A shell without a terminal: what it shows comes back as text, what fails is raised."""

    def __init__(self, plugins: Plugins | None = None) -> None:
        from memshell.scenario.player import Player

        self.player = Player() if plugins is None else Player(lambda: plugins)
        self.shell = self.player.shell

    def run(self, text: str) -> str:
        """Run commands, as ``memshell -c`` does, and return what they show.

        Raises the error of the command that fails: `KernelError` with the errno that the kernel gives,
        `UsageError` for what was not understood, others of `MemshellError`.  What came before it is done.
        """
        from io import StringIO

        from memshell.scenario.player import StepFailed

        out = self.shell.output.out = StringIO()
        try:
            self.player.play_text(text, "<python>")
        except StepFailed as failed:
            raise failed.cause from failed.__cause__
        return out.getvalue()


class Machine(machine.Machine):
    """A machine and its history: ``Machine.boot("x86_64", ram="2G")``.

    ``run`` takes the shell's commands, the properties read the state.  In a notebook it draws its memory map.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._adopt()

    def _adopt(self) -> None:
        """Be the machine that the session has now: ``use`` in a command starts another."""
        found = self.session.shell.need_machine()
        if found is not self:
            vars(self).update(vars(found))
            self.session.shell.machine = self

    @classmethod
    def boot(
        cls,
        arch: str,
        *,
        profile: str = "v6.12",
        policy: str = "buddy",
        plugins: Plugins | None = None,
        **options: str | int,
    ) -> Self:
        """Boot a machine: ``Machine.boot("x86_64", ram="2G", policy="memmap_on_memory")``.

        *options* are the keys of ``use``.  Raises `UsageError` for a name, key or value that there is not,
        with the nearest right one.
        """
        from memshell.scenario.words import quote

        keys = {**options, "profile": profile, "policy": policy}
        session = Session(plugins)
        session.run(" ".join(["use", quote(arch), *(quote(f"{key}={value}") for key, value in keys.items())]))
        return cls(session)

    def run(self, text: str) -> str:
        """Run commands of the shell and return what they show: ``machine.run("add 1G; online all movable")``.

        Raises `KernelError` with the errno that the kernel gives, `UsageError` for what was not understood,
        others of `MemshellError`; the commands before the failing one are done.
        """
        try:
            return self.session.run(text)
        finally:
            self._adopt()

    def data(self, view: str) -> Any:
        """Return what a view shows as JSON data: ``machine.data("zoneinfo")``, ``machine.data("compare buddy -- add 1G")``.

        Raises `UsageError` for a command that shows a message and no data.
        """
        import json

        output = self.session.shell.output
        form, output.form = output.form, "json"
        try:
            text = self.run(view)
        finally:
            output.form = form
        if not text:
            raise UsageError(f"{view} shows no data", hint="run() gives what it says")
        return json.loads(text)

    def eval(self, expression: str) -> Any:
        """Return the value of an expression: ``machine.eval("zone.Movable.free - 1G")``.

        Memory is in bytes, other numbers are as they are; else bool, str or list.  Raises `UsageError` for a name
        that there is not, with the nearest right one.
        """
        return self.session.player.eval(expression)

    # --- the state ---

    @property
    def arch(self) -> Arch:
        """The architecture, as it is configured."""
        return self.mm.arch

    @property
    def profile(self) -> str:
        """The name of the kernel that is modelled."""
        return self.mm.profile.name

    @property
    def policy(self) -> str:
        """The name of the policy for memory that is added from now on."""
        return self.mm.policy.name

    @property
    def mem_total(self) -> int:
        """MemTotal in bytes: the managed pages of all zones."""
        return self.mm.totalram_pages * self.mm.arch.page_size

    @property
    def mem_free(self) -> int:
        """Free memory in bytes, the per-cpu lists counted in."""
        return sum(zone.free for zone in self.mm.zones.values()) * self.mm.arch.page_size

    @property
    def blocks(self) -> Mapping[int, MemoryBlock]:
        """The memory blocks by id: state, zone, node, and how many pages of each hold its own memmap."""
        return dict(self.mm.blocks)

    @property
    def zones(self) -> Mapping[tuple[int, str], Zone]:
        """The zones by node and name, (0, "Movable"): spanned, present, managed, free, in pages."""
        return {(nid, kind.label): zone for (nid, kind), zone in self.mm.zones.items()}

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened in the newest step."""
        return self.step.events

    def check(self) -> list[str]:
        """Return what is wrong with the state, in sentences: nothing, unless a plugin or the model is."""
        from memshell.mm.invariants import violations

        return [*violations(self.mm), *self.session.shell.plugins.check(self.mm)]

    # --- how it is shown ---

    def __repr__(self) -> str:
        return f"<Machine {describe(self.mm)}>"

    def __str__(self) -> str:
        from memshell.views.memory_map import overview

        return overview(self.mm)

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        """Draw the map as wide as rich's console."""
        from rich.text import Text

        from memshell.views.memory_map import overview

        del console
        yield Text(overview(self.mm, options.max_width), no_wrap=True, overflow="crop")

    def _repr_html_(self) -> str:
        """Draw the map for a notebook: the picture, and what the zones hold."""
        from html import escape

        from memshell.pictures.machine import machine as drawn
        from memshell.pictures.svg import svg
        from memshell.views.memory_map import totals

        return f"{svg(drawn(self.mm))}<pre>{escape(chr(10).join(totals(self.mm)))}</pre>"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Return the text and the picture: a notebook takes what it can draw."""
        del include, exclude
        return {"text/plain": str(self), "text/html": self._repr_html_()}


def describe(mm: Mm) -> str:
    """Return a machine in one line."""
    from memshell.commands.machine import describe as one_line

    return one_line(mm)
