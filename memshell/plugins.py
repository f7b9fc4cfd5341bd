"""Find, load, isolate, block and time the plugins.

One plugin's fault is one line that names it; the others go on.  Nothing is loaded from the working directory
by itself: a plugin is an installed entry point of the group ``memshell``, or a file that ``--plugin``
names.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from contextlib import redirect_stdout
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

from memshell import hookspecs
from memshell.arch import Arch
from memshell.drivers.callers import Caller
from memshell.errors import PluginError, UsageError, did_you_mean
from memshell.plugins_guard import PolicyLike, guarded_command, isolated, isolated_event, name_fault, one_line
from memshell.result import Column
from memshell.shell.registry import Command

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from importlib.metadata import EntryPoint
    from types import ModuleType, TracebackType

    from memshell.mm.events import Event
    from memshell.mm.profile import Profile
    from memshell.mm.state import Mm
    from memshell.policy import Policy

GROUP = "memshell"
T = TypeVar("T")
HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("memshell_"))


@dataclass(slots=True)
class Plugin:
    """One plugin: where it came from, what it implements, how it fares."""

    name: str
    version: str
    origin: str
    module: ModuleType | None = None
    hooks: tuple[str, ...] = ()
    seconds: float = 0.0
    state: str = "loaded"  # loaded | blocked | failed | disabled
    error: str = ""
    get: Callable[[], ModuleType] | None = None  # what imports it
    source: Callable[[], Path | None] = lambda: None  # where it would be imported from

    @property
    def title(self) -> str:
        """The name and version, as messages have it."""
        return f"plugin {self.name} {self.version}".rstrip()

    def owns(self, path: str) -> bool:
        """Whether the code in the file *path* is this plugin's."""
        if self.module is None:
            return False
        folders = [f"{folder}{os.sep}" for folder in getattr(self.module, "__path__", ())]
        return path == getattr(self.module, "__file__", None) or path.startswith(tuple(folders))


def _version_problem(wanted: object) -> PluginError | None:
    """Return what to say of the memshell_api that a plugin states; None where it is read."""
    if type(wanted) is int and wanted in hookspecs.READS:
        return None
    said = "states no memshell_api" if wanted is None else f"is for memshell_api {wanted!r}"
    if wanted is not None and type(wanted) is not int:
        return PluginError(f"it {said}, which is no number", hint=f"memshell_api = {hookspecs.API}")
    return PluginError(f"it {said}, this memshell has {hookspecs.API}")


def _other_version(plugin: Plugin, error: BaseException) -> PluginError | None:
    """Return that a plugin, whose import failed, is for another version: read in its source, since that is why it failed."""
    if isinstance(error, PluginError):
        return None
    import ast

    try:
        path = plugin.source()
        tree = ast.parse(path.read_bytes() if path is not None else b"")
    except (OSError, SyntaxError, ValueError, ImportError):
        return None
    for node in reversed(tree.body):
        targets = node.targets if isinstance(node, ast.Assign) else []
        named = any(isinstance(target, ast.Name) and target.id == "memshell_api" for target in targets)
        if named and isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            return _version_problem(node.value.value)
    return None


def _signature(plugin: Plugin) -> PluginError | None:
    """Return which hook of a plugin has arguments that no hook has."""
    for name in HOOKS:
        function = getattr(plugin.module, name, None)
        code = getattr(function, "__code__", None)
        if code is None or getattr(function, "memshell_impl", None) is None:
            continue
        takes = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        known = tuple(getattr(hookspecs, name).__code__.co_varnames[: getattr(hookspecs, name).__code__.co_argcount])
        if not {*takes} <= {*known}:
            return PluginError(f"{name}({', '.join(takes)}) has to be {name}({', '.join(known)})")
    return None


def _gone(error: ImportError) -> PluginError | None:
    """Return what to say of an import of a name that API 1 had."""
    name = next((name for name in hookspecs.GONE if f"cannot import name {name!r}" in str(error)), None)
    text = f"{name} was in memshell_api 1, this memshell has {hookspecs.API}"
    return PluginError(text, hint="docs/plugins.md says what is there instead") if name else None


def _warn(text: str) -> None:
    print(f"memshell: {text}", file=sys.stderr, flush=True)


@dataclass(slots=True)
class Plugins:
    """The plugins of one session, and the only place that calls their hooks."""

    strict: bool = False
    warn: Callable[[str], None] = _warn
    found: list[Plugin] = field(default_factory=list)
    observed: bool = False  # one of them looks at events
    manager: pluggy.PluginManager = field(default_factory=lambda: pluggy.PluginManager(GROUP))
    _said: set[str] = field(default_factory=set)
    _known: dict[str, Any] = field(default_factory=dict)  # what was asked for, by kind

    def __post_init__(self) -> None:
        self.manager.add_hookspecs(hookspecs)

    def names(self) -> list[str]:
        """Return the names of the plugins that are loaded."""
        return [plugin.name for plugin in self.found if plugin.state == "loaded"]

    # --- loading ---

    def load(self, plugin: Plugin, get: Callable[[], ModuleType]) -> None:
        """Import and register one plugin; a fault of it is recorded and told in one line."""
        if plugin not in self.found:
            self.found.append(plugin)
        plugin.get = get
        started = time.perf_counter()
        try:
            with redirect_stdout(sys.stderr):
                plugin.module = get()
            self._register(plugin)
        except pluggy.PluginValidationError as error:
            self._fail(plugin, "cannot be loaded", _signature(plugin) or error)
        except ImportError as error:
            self._fail(plugin, "cannot be loaded", _other_version(plugin, error) or _gone(error) or error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is a stranger's
            self._fail(plugin, "cannot be loaded", _other_version(plugin, error) or error)
        finally:
            plugin.seconds = time.perf_counter() - started

    def _register(self, plugin: Plugin) -> None:
        module = plugin.module
        if problem := _version_problem(getattr(module, "memshell_api", None)):
            raise problem
        self._look_for_misspellings(plugin)
        self.manager.register(module, plugin.name)
        callers = self.manager.get_hookcallers(module) or []
        plugin.hooks = tuple(sorted(caller.name for caller in callers if caller.name in HOOKS))
        self.observed |= "memshell_event" in plugin.hooks

    def _look_for_misspellings(self, plugin: Plugin) -> None:
        for name, value in vars(plugin.module).items():
            marked = getattr(value, "memshell_impl", None) is not None
            if marked and name not in HOOKS:
                hint = did_you_mean(name, HOOKS) or "known: " + ", ".join(HOOKS)
                self.warn(f"{plugin.title}: there is no hook {name}; {hint}")
            elif name in HOOKS and callable(value) and not marked:
                self.warn(f"{plugin.title}: {name} is not marked with @hookimpl and will not be called")

    def _fail(self, plugin: Plugin, what: str, error: BaseException) -> None:
        plugin.state, plugin.error = "failed", f"{what}: {one_line(error)}"
        if plugin.module is not None and self.manager.is_registered(plugin.module):
            self.manager.unregister(plugin.module)
        text = f"{plugin.title} {plugin.error}"
        if self.strict:
            raise PluginError(text) from error
        self.warn(text)

    def disable(self, name: str) -> Plugin:
        """Take a plugin out; what the machine has of it stays. Raises UsageError for a name that is not there."""
        plugin = self._one(name)
        if plugin.module is not None and self.manager.is_registered(plugin.module):
            self.manager.unregister(plugin.module)
        plugin.state, plugin.error = "disabled", ""
        self._known.clear()
        return plugin

    def reload(self, name: str) -> Plugin:
        """Import a plugin anew, from its files as they are now. Raises UsageError, and PluginError when that fails."""
        plugin = self.disable(name)
        if plugin.get is None:
            raise UsageError(f"the plugin {name} is blocked", hint="start without --block-plugin")
        if plugin.module is not None:
            own = plugin.module.__name__
            for known in [known for known in sys.modules if known == own or known.startswith(f"{own}.")]:
                del sys.modules[known]
        importlib.invalidate_caches()
        plugin.state, plugin.hooks = "loaded", ()
        strict, self.strict = self.strict, True
        try:
            self.load(plugin, plugin.get)
        except PluginError as error:
            raise PluginError(error.message, hint=f"mend it, and plugin reload {name}") from error.__cause__
        finally:
            self.strict = strict
        return plugin

    def _one(self, name: str) -> Plugin:
        found = next((plugin for plugin in self.found if plugin.name == name), None)
        if found is None:
            names = [plugin.name for plugin in self.found]
            raise UsageError(f"no plugin {name!r}", hint=did_you_mean(name, names) or "plugins lists them")
        return found

    # --- calling ---

    def context(self, mm: Mm | None = None, view: str = "") -> hookspecs.Context:
        """Return the context for a hook, with a copy of the state."""
        from memshell import __version__

        return hookspecs.Context(hookspecs.API, __version__, None if mm is None else isolated(mm), view)

    def _implementations(self, hook: str) -> Iterator[tuple[Plugin, Callable[..., Any]]]:
        """Yield the plugins that implement *hook*, in the order in which they were found."""
        for plugin in self.found:
            if plugin.state == "loaded" and hook in plugin.hooks:
                yield plugin, getattr(plugin.module, hook)

    def _call(
        self, hook: str, ctx: hookspecs.Context, *values: Any, kind: type | None = None, only: Plugin | None = None
    ) -> list[Any]:
        """Call *hook* in every plugin, or *only* one; return what they gave, all of it of *kind*."""
        gathered: list[Any] = []
        for plugin, function in self._implementations(hook):
            if only is not None and plugin is not only:
                continue
            try:
                with redirect_stdout(sys.stderr):
                    given = _arguments(function, ctx, *values)
                    gathered += [] if kind is None else _checked(given, hook, kind)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - it is a stranger's
                self._fail(plugin, f"failed in {hook}", error)
        return gathered

    def arches(self) -> dict[str, Arch]:
        """Return the architectures by name, each with the callers and fault points of all plugins."""
        return self._once("arches", self._find_arches)

    def _find_arches(self) -> dict[str, Arch]:
        from memshell.vmlinux.defaults import DEFAULTS

        callers = tuple(self._named("memshell_callers", Caller, "caller").values())
        faults = tuple(self._named("memshell_faults", hookspecs.FaultPoint, "fault point").values())
        found: dict[str, Arch] = self._named("memshell_arches", Arch, "architecture")
        for name, arch in found.items():
            if arch.image_defaults is not None:
                DEFAULTS.update(dict.fromkeys(arch.machines or (arch.name,), arch.image_defaults))
            if callers or faults:
                found[name] = replace(arch, callers=(*arch.callers, *callers), faults=(*arch.faults, *faults))
        return found

    def policies(self) -> dict[str, Policy]:
        """Return the policies by name."""
        return self._once("policies", lambda: self._named("memshell_policies", PolicyLike, "policy"))

    def quantities(self) -> dict[str, hookspecs.Quantity]:
        """Return the quantities of plugins by name."""
        return self._once("quantities", lambda: self._named("memshell_quantities", hookspecs.Quantity, "quantity"))

    def quantity(self, name: str, mm: Mm) -> int | str | bool:
        """Return the value of a plugin's quantity. Raises PluginError for one that is no number, word or truth."""
        value = self.quantities()[name].value(isolated(mm))
        if not isinstance(value, (int, str)):
            raise PluginError(f"the quantity {name} is {value!r}, no whole number, text or truth")
        return value

    def formats(self) -> dict[str, hookspecs.Format]:
        """Return what plugins can export, by name."""
        return self._once("formats", lambda: self._named("memshell_formats", hookspecs.Format, "format"))

    def profiles(self) -> Mapping[str, Profile]:
        """Return all kernels by name, each with the features of plugins: the released ones, and those of plugins."""
        return self._once("profiles", self._find_profiles)

    def _find_profiles(self) -> Mapping[str, Profile]:
        from memshell.mm.profile import Profile
        from memshell.profiles import PROFILES, Kernels

        own = self._named("memshell_profiles", Profile, "profile", PROFILES)
        return Kernels(own, self.extended)

    def extended(self, kernel: Profile) -> Profile:
        """Return a kernel with the features of plugins, where it does not have them yet."""
        from memshell.profiles import with_groups

        groups = self._once("features", self._find_features)
        return with_groups(kernel, {name: kind for name, kind in groups.items() if not hasattr(kernel.features, name)})

    def _find_features(self) -> dict[str, type]:
        from memshell.mm.feature import resolved
        from memshell.mm.features import Features

        taken = {item.name for item in fields(Features)}
        found: dict[str, hookspecs.FeatureGroup] = self._named(
            "memshell_features", hookspecs.FeatureGroup, "group of features", taken
        )
        return {name: resolved(group.kind) for name, group in found.items()}

    def scenarios(self) -> dict[str, Path]:
        """Return the scenarios that plugins bring: PLUGIN/NAME -> file."""
        found: dict[str, Path] = {}
        for plugin in self.found:
            for folder in self._call("memshell_scenarios", self.context(), kind=Path, only=plugin):
                for path in sorted(folder.rglob("*.mem")):
                    found[f"{plugin.name}/{path.relative_to(folder).with_suffix('').as_posix()}"] = path
        return found

    def _once(self, what: str, find: Callable[[], T]) -> T:
        """Return what *find* finds, which is asked once; a plugin that fails in it is out then."""
        if what not in self._known:
            self._known[what] = find()
        found: T = self._known[what]
        return found

    def _named(self, hook: str, kind: type, what: str, taken: Collection[str] = ()) -> dict[str, Any]:
        """Return what *hook* gives by name; one that cannot be or exists already is refused, with the rule."""
        known: dict[str, Any] = {}
        origins: dict[str, str] = dict.fromkeys(taken, "memshell")
        for plugin in self.found:
            for item in self._call(hook, self.context(), kind=kind, only=plugin):
                fault = name_fault(what, item)
                if item.name in origins and not fault:
                    fault = f"exists already, from {origins[item.name]}"
                if fault:
                    self.warn(f"{plugin.title}: {what} {item.name!s} {fault}")
                else:
                    known[item.name], origins[item.name] = item, plugin.title
        return known

    def commands(self) -> list[Command]:
        """Return the commands that plugins bring."""
        return [
            guarded_command(item, plugin.title, self.warn)
            for plugin in self.found
            for item in self._call("memshell_commands", self.context(), kind=Command, only=plugin)
        ]

    def columns(self, view: str, mm: Mm | None, own: Collection[str] = ()) -> list[Column]:
        """Return the extra columns of a view, which has *own* ones: one of such a name is refused."""
        found: dict[str, Column] = {}
        for plugin in self.found:
            for column in self._call("memshell_columns", self.context(mm, view), kind=Column, only=plugin):
                fault = name_fault("column", column)
                if column.name.upper() in {name.upper() for name in (*own, *found)}:
                    fault = f"is there already in {view}"
                elif column.compute is None:
                    fault = "has no compute: a function of a row that returns the value"
                if fault:
                    self.complain(f"{plugin.title}: column {column.name} {fault}")
                else:
                    found[column.name] = replace(column, default=False)
        return list(found.values())

    def complain(self, text: str) -> None:
        """Warn of something once."""
        if text not in self._said:
            self._said.add(text)
            self.warn(text)

    def event(self, mm: Mm, events: Iterable[Event]) -> None:
        """Show committed events to the observers."""
        for plugin, _function in list(self._implementations("memshell_event")):
            ctx = self.context(mm)
            for event in events:
                self._call("memshell_event", ctx, isolated_event(event), only=plugin)

    def check(self, mm: Mm) -> list[str]:
        """Return what the plugins find wrong with the state."""
        return self._call("memshell_check", self.context(mm), kind=str)

    def startup(self) -> None:
        """Tell every plugin that all are loaded."""
        self._call("memshell_startup", self.context())

    def blame(self, error: BaseException) -> PluginError | None:
        """Return the error as a plugin's, when a plugin's code raised it."""
        for path, function in reversed(list(_frames(error.__traceback__))):
            for plugin in self.found:
                if plugin.owns(path):
                    return PluginError(f"{plugin.title} failed in {function}: {one_line(error)}")
        return None


def _arguments(function: Callable[..., Any], *values: Any) -> Any:
    """Call a hook with as many of the values as it takes: pluggy lets an implementation take fewer."""
    return function(*values[: function.__code__.co_argcount])


def _checked(given: Any, hook: str, kind: type) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise TypeError(f"{hook} has to return a list, not {type(given).__name__}")
    items = list(given)
    wrong = next((item for item in items if not isinstance(item, kind)), None)
    if wrong is not None:
        raise TypeError(f"{hook} returned a {type(wrong).__name__}, not a {kind.__name__}")
    return items


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, str]]:
    while trace is not None:
        code = trace.tb_frame.f_code
        yield code.co_filename, code.co_name
        trace = trace.tb_next


# --- finding ---


def load_plugins(
    files: Iterable[str] = (), *, blocked: Iterable[str] = (), strict: bool = False, warn: Callable[[str], None] = _warn
) -> Plugins:
    """Load the installed plugins and those of *files*, except the *blocked* names.

    With *strict*, the first fault raises PluginError.
    """
    plugins = Plugins(strict=strict, warn=warn)
    block = set(blocked)
    for entry in _entry_points():
        version = entry.dist.version if entry.dist is not None else ""
        origin = f"{entry.dist.name}: {entry.value}" if entry.dist is not None else entry.value
        plugin = Plugin(entry.name, version, origin, source=partial(_source, entry.module))
        _load_or_block(plugins, plugin, entry.load, block)
    for path in files:
        plugin = Plugin(Path(path).stem, "", path, source=partial(Path, path))
        _load_or_block(plugins, plugin, partial(_import_file, path), block)
    unknown = block - {plugin.name for plugin in plugins.found}
    for name in sorted(unknown):
        hint = did_you_mean(name, [plugin.name for plugin in plugins.found])
        plugins.warn(f"no plugin {name!r} to block" + (f"; {hint}" if hint else ""))
    plugins.startup()
    return plugins


def _load_or_block(plugins: Plugins, plugin: Plugin, get: Callable[[], ModuleType], block: set[str]) -> None:
    if plugin.name in block:
        plugin.state = "blocked"
        plugins.found.append(plugin)
    else:
        plugins.load(plugin, get)


def _source(module: str) -> Path | None:
    """Return the file of a module, without importing it."""
    from importlib.util import find_spec

    top, *rest = module.split(".")
    spec = find_spec(top)
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent.joinpath(*rest)
    return Path(spec.origin) if not rest else path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _entry_points() -> list[EntryPoint]:
    """Return the entry points of the group, each once (a checkout may be on the path twice), memshell's own first."""
    from importlib.metadata import entry_points

    unique = {(entry.name, entry.value): entry for entry in entry_points(group=GROUP)}
    return sorted(unique.values(), key=lambda entry: (not entry.value.startswith("memshell_plugins."), entry.name))


def _import_file(path: str) -> ModuleType:
    """Import a plugin from a file.  Raises PluginError when there is none."""
    from importlib.util import module_from_spec, spec_from_file_location

    if not Path(path).is_file():
        raise PluginError(f"there is no file {path}")
    spec = spec_from_file_location(f"memshell_plugin_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    # Compiled here: a file that was saved twice in a second would come out of the cache as it was.
    exec(compile(Path(path).read_bytes(), path, "exec"), vars(module))  # noqa: S102 - that is what --plugin asks for
    return module
