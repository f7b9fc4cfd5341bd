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
        self.shell.leaving = False
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
        """Draw the history for a notebook: the page of ``export html``, with its slider, in a frame of its own."""
        from html import escape

        from memshell.commands.drawing import filmed

        text = filmed(repr(self), {self.policy: self.steps}, self.session.shell)
        look = 'width="100%" height="720" style="border:1px solid #8888;border-radius:6px"'
        return f'<iframe {look} title="{escape(repr(self))}" srcdoc="{escape(text)}"></iframe>'

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Return the text, the picture and the page: a notebook takes what it can draw."""
        del include, exclude
        from memshell.pictures.machine import machine as drawn
        from memshell.pictures.svg import svg

        return {"text/plain": str(self), "image/svg+xml": svg(drawn(self.mm)), "text/html": self._repr_html_()}

    def to_dataframe(self, view: str = "blocks") -> Any:
        """Return a pandas.DataFrame: ``blocks`` (a row a memory block), ``zones``, ``steps``, or what a view shows.

        Sizes are in bytes.  Raises `CommandError` where pandas is not installed.
        """
        from memshell.errors import CommandError

        try:
            import pandas as pd
        except ImportError as error:
            hint = "pip install 'memshell-mm[notebook]'"
            raise CommandError("to_dataframe needs pandas, which is not installed", hint=hint) from error
        own = {"blocks": _block_rows, "zones": _zone_rows, "steps": _step_rows}
        if view in own:
            return pd.DataFrame(own[view](self)).set_index({"blocks": "block", "zones": "zone", "steps": "step"}[view])
        return pd.json_normalize(self.data(view))


def _block_rows(machine: Machine) -> list[dict[str, Any]]:
    size, page = machine.mm.block_size, machine.mm.arch.page_size
    return [
        {
            "block": number,
            "start": number * size,
            "size": size,
            "state": block.state,
            "node": block.nid,
            "zone": None if block.zone is None else block.zone.label,
            "memmap": block.nr_vmemmap_pages * page,
            "early": block.early,
        }
        for number, block in machine.blocks.items()
    ]


def _zone_rows(machine: Machine) -> list[dict[str, Any]]:
    page = machine.mm.arch.page_size
    counts = ("spanned", "present", "managed", "free")
    return [
        {"zone": label, "node": nid, **{name: getattr(zone, name) * page for name in counts}}
        for (nid, label), zone in machine.zones.items()
    ]


def _step_rows(machine: Machine) -> list[dict[str, Any]]:
    from memshell.commands.plot import of_steps
    from memshell.commands.session import outcome

    lines = [line for subject in ("free", "memmap", "blocks") for line in of_steps(machine, subject).lines]
    return [
        {"step": step.n, "command": step.command, "outcome": outcome(step)}
        | {name: int(values[at] or 0) for name, values in lines}
        for at, step in enumerate(machine.steps)
    ]


def describe(mm: Mm) -> str:
    """Return a machine in one line."""
    from memshell.commands.machine import describe as one_line

    return one_line(mm)
