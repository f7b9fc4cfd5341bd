"""The commands that choose the machine: ``use``, ``policy``, ``profile``, ``set``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memshell.errors import RecordingError, UsageError, did_you_mean
from memshell.result import Column, Result
from memshell.shell.registry import ArgType, arg, command
from memshell.shell.types import FILE, TEXT, named

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from memshell.arch import Arch
    from memshell.commands.sized import Sized
    from memshell.machine import Machine
    from memshell.mm.profile import Profile
    from memshell.mm.state import Mm
    from memshell.policy import Policy
    from memshell.profiles import Choice
    from memshell.shell.registry import Suggestions
    from memshell.shell.shell import Shell

DEFAULT_POLICY = "buddy"


def _profiles(shell: Shell) -> Mapping[str, str]:
    return {
        name: f"made from {kernel.base}" if kernel.base else "kernel"
        for name, kernel in shell.plugins.profiles().items()
    }


def _policies(shell: Shell) -> Mapping[str, str]:
    """Return the policies that the kernel has, each with its summary."""
    from memshell.policy import since_of

    kernel = shell.machine.mm.profile if shell.machine else None
    known = shell.plugins.policies()
    return {name: one.summary for name, one in known.items() if kernel is None or kernel.has(since_of(one))}


def _policy_words(shell: Shell, prefix: str) -> Suggestions:
    """Complete policies, and their parameters."""
    from memshell.policy import options_of

    yield from _policies(shell).items()
    key, equals, _typed = prefix.partition("=")
    for name in _policies(shell):
        for option in options_of(shell.plugins.policies()[name]):
            if not equals:
                yield f"{option.name}=", f"{name}: {option.text}"
            elif option.name == key:
                yield from (
                    (f"{key}={value}", f"{name}: {option.text}") for value in option.choices or (option.default,)
                )


def _choose_profile(word: str, shell: Shell) -> Choice:
    from memshell.profiles import choose_profile

    return choose_profile(word, shell.plugins.profiles())


def _policy_word_of(word: str, shell: Shell) -> str:
    """Return the name of a policy, or key=value."""
    return word if "=" in word else str(POLICY.convert(word, shell))


POLICY = named("policy", lambda shell: {name: one.summary for name, one in shell.plugins.policies().items()})
POLICY_WORD = ArgType("POLICY", _policy_word_of, _policy_words)
PROFILE = ArgType("PROFILE", _choose_profile, lambda shell, _prefix: _profiles(shell).items())


def _use_arches(shell: Shell, prefix: str) -> Suggestions:
    """Complete the architecture, or the file of a machine."""
    yield from ((name, "architecture") for name in shell.plugins.arches())
    files = (name for name, _ in FILE.complete(shell, prefix) if name.endswith((".json", ".json.xz", "/")))
    yield from ((name, "machine file") for name in files)


def _use_words(shell: Shell, prefix: str, before: list[str]) -> Suggestions:
    """Complete the keys of the architecture that stands *before*, then the values of a key."""
    arches = shell.plugins.arches()
    key, equals, typed = prefix.partition("=")
    for arch in [arches[word] for word in before if word in arches]:
        for option in arch.options:
            if not equals:
                yield f"{option.name}=", option.text
            elif option.name == key:
                yield from ((f"{key}={value}", option.text) for value in option.choices or (option.default,))
    extra = {"profile": _profiles(shell), "policy": _policies(shell)}
    yield from (
        (f"policy.{text}", meta) for text, meta in _policy_words(shell, prefix.removeprefix("policy.")) if "=" in text
    )
    for name, values in extra.items():
        yield f"{name}=", f"the {name}"
        if equals and key == name:
            yield from ((f"{name}={value}", text) for value, text in values.items())
    yield "vmlinux=", "size the machine by this kernel image"
    if equals and key == "vmlinux":
        yield from ((f"vmlinux={name}", text) for name, text in FILE.complete(shell, typed))


USE_WORD = ArgType("KEY=VALUE", TEXT.convert, after=_use_words, names_files=True)
ARCH = ArgType("ARCH", TEXT.convert, _use_arches, names_files=True)


@command(
    "machine",
    arg("arch", ARCH, "an architecture, a machine file or a recording; without it, list the keys", nargs="?"),
    arg("options", USE_WORD, "its options, profile=v6.12 and policy=NAME", nargs="*"),
    needs_machine=False,
    examples="""
> use x86_64 ram=2G profile=v6.12
x86_64, 2G, blocks of 128M, kernel v6.12, policy buddy
""",
)
def use(shell: Shell, args: Namespace) -> str | Result:
    """Start a fresh machine.

    ``use x86_64 ram=4G block=256M`` boots one of an architecture that a plugin brings; the keys are the
    architecture's (``use`` alone lists them), and ``profile=`` and ``policy=`` choose the
    kernel and where the memmap of added memory goes. A parameter or a feature that ``set`` knows can be a
    key too, such as online_policy=auto-movable or auto_online=online_movable: it holds from boot on.

    ``vmlinux=FILE`` sizes the machine by a real kernel: the size of struct page and of struct mem_section,
    page size, orders, section size where the image tells it, and the profile by its release.  A configuration in it
    or beside it (``config-VERSION``, ``.config``) says what is built in, and how added memory is onlined.  What is
    given by hand wins over the file.

    ``use FILE`` boots the machine that ``memshell capture -o FILE`` read, or the one that a recording (NAME.json or
    NAME.json.xz) begins with: its kernel chooses the profile, its memmap_on_memory the policy.  Keys that do not
    say how much memory there is may follow.
    """
    from memshell.profiles import DEFAULT_PROFILE

    arches = shell.plugins.arches()
    if args.arch is None:
        return _list_arches(arches)
    if args.arch not in arches and _names_file(args.arch):
        return _use_file(shell, args.arch, _options(args.options or []))
    if args.arch not in arches:
        hint = did_you_mean(args.arch, arches) or "known: " + ", ".join(arches)
        raise UsageError(f"unknown architecture {args.arch!r}", hint=hint if arches else "no arch plugin is loaded")
    options = _options(args.options or [])
    sized = _sized(shell, arches[args.arch], options)
    choice: Choice = PROFILE.convert(options.pop("profile", DEFAULT_PROFILE.name), shell)
    kernel = choice.profile
    for key in [key for key in options if key in kernel.features]:
        kernel = _with_feature(kernel, key, options.pop(key))
    policy = _chosen_policy(shell, options, kernel)
    start(shell, arches[args.arch], options, kernel, policy, sized.constants if sized else None)
    lines = [describe(shell.need_machine().mm), choice.note]
    if sized is not None:
        shell.image = sized.loaded
        lines.append(str(sized))
    return "\n".join(line for line in lines if line)


def _names_file(word: str) -> bool:
    from pathlib import Path

    return "/" in word or word.endswith(".json") or Path(word).is_file()


def _use_file(shell: Shell, path: str, options: dict[str, str]) -> str:
    """Boot the machine of a machine file or a recording; its kernel and parameters choose what *options* do not."""
    from memshell.capture import reader, recording
    from memshell.capture.again import judge
    from memshell.capture.formats import memory_words
    from memshell.mm.params import unread
    from memshell.profiles import Choice, choose_profile

    raw = reader.read_json(path, "machine file")
    boots = _Recorded if isinstance(raw, dict) and raw.get("schema") == recording.SCHEMA else _Captured
    file = boots(raw, path)
    name = options.pop("profile", None)
    kernel, note = Choice(file.profile()) if name is None else choose_profile(name, shell.plugins.profiles())
    kernel = shell.plugins.extended(kernel)
    policies = shell.plugins.policies()
    named = "policy" in options or "memmap_on_memory" in options
    policy = _chosen_policy(shell, options, kernel) if named else file.policy(policies)
    given = _given_params(options)
    for key in [key for key in options if key in kernel.features]:
        kernel = _with_feature(kernel, key, options.pop(key))
    machine = file.boot(kernel, options, shell, policy)
    try:
        differs = judge(machine.mm, file.state)
    except RecordingError as error:
        raise RecordingError(f"{path}: {error.message}") from error
    for key, value in given.items():
        machine.mm.params = machine.mm.params.with_text(key, _at_run_time(key, _exists(key, value, kernel)))
    shell.machine = machine
    for text in differs:
        shell.note(f"memshell: {path}: {text}")
    arch = machine.mm.arch
    for word in unread(memory_words(str(raw.get("cmdline", ""))), machine.mm.profile, arch.boot_words):
        shell.note(f"memshell: {path}: {word} on its kernel's command line changes nothing here")
    return "\n".join(line for line in (describe(machine.mm), note) if line)


def _exists(name: str, value: str, kernel: Profile) -> str:
    """Return *value* where the kernel has the parameter *name*. Raises `UsageError`."""
    from memshell.mm.params import NEEDS, PARAMETERS

    feature = PARAMETERS[name].feature
    if feature and not kernel.features[feature]:
        raise UsageError(f"the kernel {kernel.name} has no {name}", hint=PARAMETERS[name].text)
    built = NEEDS.get(PARAMETERS[name].word or name)
    if built:
        kernel.need_built(bool(kernel.features[built]), built.removeprefix("config.").upper())
    if name == "memmap_content" and "config.debug_vm" not in kernel.features:
        hint = "only profiles rfc-* and patch-* look at what new struct pages hold"
        raise UsageError(f"{name} changes nothing in the kernel {kernel.name}", hint=hint)
    return value


def _at_run_time(name: str, value: str) -> str:
    """Return *value* where the parameter *name* can be set while the kernel runs. Raises `UsageError`."""
    from memshell.mm.params import PARAMETERS

    if PARAMETERS[name].at_boot:
        raise UsageError(f"{name} is read at boot only", hint=f"use ARCH ... {name}={value}")
    return value


def _given_params(options: dict[str, str]) -> dict[str, str]:
    """Take the kernel's parameters out of *options*, by their names; auto_online is auto_online_blocks."""
    from memshell.mm.params import PARAMETERS

    if "auto_online" in options:
        options["auto_online_blocks"] = options.pop("auto_online")
    return {key: options.pop(key) for key in list(options) if key in PARAMETERS}


class _Captured:
    """The machine of a file that ``memshell capture`` wrote."""

    def __init__(self, raw: Any, path: str) -> None:
        from memshell.capture.machine_file import machine_file_of

        self.file = machine_file_of(raw, path)
        self.state = self.file.state

    def profile(self) -> Profile:
        from memshell.capture import profile_of

        return profile_of(self.file)

    def policy(self, policies: Mapping[str, Policy]) -> Policy:
        from memshell.capture import policy_of

        return policy_of(self.file, policies)

    def boot(self, kernel: Profile, options: dict[str, str], shell: Shell, policy: Policy) -> Machine:
        from memshell.capture import boot_file

        return boot_file(self.file, kernel, options, shell.plugins.arches(), policy, shell.running.text)


class _Recorded:
    """The machine that a recording begins with."""

    def __init__(self, raw: Any, path: str) -> None:
        from memshell.capture.recording import recording_of

        self.recording = recording_of(raw, path)
        self.state = self.recording.steps[0]["state"]

    def profile(self) -> Profile:
        return self.recording.profile

    def policy(self, policies: Mapping[str, Policy]) -> Policy:
        return self.recording.policy(policies)

    def boot(self, kernel: Profile, options: dict[str, str], shell: Shell, policy: Policy) -> Machine:
        from memshell.capture.recording import boot_recording

        for name, value in options.items():
            raise UsageError(f"{name}={value} cannot be given here", hint="the recording says what the machine is")
        return boot_recording(self.recording, shell.plugins.arches(), kernel, policy, shell.running.text)


def _chosen_policy(shell: Shell, options: dict[str, str], kernel: Profile) -> Policy:
    """Take the policy out of *options*: by its name, or as the kernel's parameter has it, and its own parameters."""
    from memshell.policy import chosen

    parameter, name = options.pop("memmap_on_memory", None), options.pop("policy", None)
    values = {key.removeprefix("policy."): options.pop(key) for key in list(options) if key.startswith("policy.")}
    if parameter is not None and name is not None:
        raise UsageError("policy and memmap_on_memory say the same", hint="give one of them")
    if parameter is not None:
        return chosen(_policy_of_parameter(shell, parameter, kernel), values, kernel)
    name = default_policy(kernel) if name is None else str(POLICY.convert(name, shell))
    return chosen(shell.plugins.policies()[name], values, kernel)


def _sized(shell: Shell, arch: Arch, options: dict[str, str]) -> Sized | None:
    if "vmlinux" not in options:
        return None
    from memshell.commands.sized import size_by_image

    return size_by_image(arch, options, shell.plugins.arches())


def _list_arches(arches: Mapping[str, Arch]) -> Result:
    rows = [
        {"arch": name, "key": option.name, "default": option.default, "text": option.text}
        for name, arch in arches.items()
        for option in arch.options
    ]
    return Result(rows=rows, columns=(Column("ARCH"), Column("KEY"), Column("DEFAULT"), Column("TEXT")))


def default_policy(profile: Profile) -> str:
    """Return the policy of a kernel that gives no choice (the series of 2017 to 2019), else the default."""
    return "memmap_from_range" if profile.seam.memmap_from_range else DEFAULT_POLICY


def _options(words: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not value:
            raise UsageError(f"{word!r} is not of the form key=value", hint="such as ram=2G")
        if key in options:
            raise UsageError(f"{key} is given twice")
        options[key] = value
    return options


def start(
    shell: Shell,
    arch: Arch,
    options: dict[str, str],
    kernel: Profile,
    policy: Policy,
    constants: Mapping[str, int] | None = None,
) -> None:
    """Boot a machine and make it the shell's."""
    from memshell.machine import Machine, boot
    from memshell.mm.params import PARAMETERS, Params
    from memshell.mm.profile import unknown
    from memshell.profiles import is_feature, unknown_feature

    text = shell.running.text
    if shell.booted is not None and text in shell.booted:
        shell.machine = Machine(shell.booted[text], text)
        return
    known = [*(option.name for option in arch.options), "profile", "policy", "vmlinux"]
    params = Params()
    for key, value in _given_params(options).items():
        params = params.with_text(key, _exists(key, value, kernel))
    for key in list(options):
        if key in kernel.features:
            kernel = _with_feature(kernel, key, options.pop(key))
        elif key not in known:
            keys = dict.fromkeys([*known, "memmap_on_memory", "auto_online", *PARAMETERS])
            raise unknown_feature(key, kernel) if is_feature(key) else unknown("key", key, keys)
    shell.machine = boot(arch, options, kernel, policy, text, constants, params)
    if shell.booted is not None:
        shell.booted[text] = shell.machine.mm


def describe(mm: Mm) -> str:
    """Return a machine in one line."""
    from memshell.mm.pfn import format_size
    from memshell.policy import titled

    present = sum(zone.present for zone in mm.zones.values()) * mm.arch.page_size
    size = format_size(-(-present // (1 << 20)) << 20)
    block = format_size(mm.block_size)
    return f"{mm.arch.name}, {size}, blocks of {block}, kernel {mm.profile.name}, policy {titled(mm.policy)}"


@command(
    "machine",
    arg("name", POLICY_WORD, "the policy; without it, list them", nargs="?"),
    arg("parameters", POLICY_WORD, "its parameters, key=value; alone, those of the policy that is chosen", nargs="*"),
    needs_machine=False,
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> policy memmap_on_memory
policy memmap_on_memory
""",
)
def policy(shell: Shell, args: Namespace) -> str | Result:
    """Choose where the memmap of memory that is added from now on goes.

    A policy of a plugin may have parameters: ``policy NAME key=value`` chooses it with them, ``policy key=value`` changes one of
    the policy that is chosen; with ``use`` they are written ``policy.key=value``.
    """
    if args.name is None:
        return _list_policies(shell)
    words = [args.name, *(args.parameters or [])]
    names = [word for word in words if "=" not in word]
    if len(names) > 1 or (names and names[0] != words[0]):
        raise UsageError(f"{' '.join(words)!r} names no single policy", hint="policy NAME key=value")
    given = _options([word for word in words if "=" in word])
    from memshell.policy import chosen, titled, values_of

    with shell.change() as mm:
        one = shell.plugins.policies()[names[0]] if names else mm.policy
        mm.policy = chosen(one, given if names else {**values_of(one), **given}, mm.profile)
    return f"policy {titled(mm.policy)}"


def _list_policies(shell: Shell) -> Result:
    from memshell.policy import options_of, since_of, values_of

    now = shell.machine.mm.policy if shell.machine else None
    rows = []
    for name, one in shell.plugins.policies().items():
        here = now is not None and now.name == name
        values = values_of(now) if now is not None and here else {o.name: o.default for o in options_of(one)}
        shown = " ".join(f"{key}={value}" for key, value in values.items())
        rows.append({"name": name, "now": here, "parameters": shown, "since": since_of(one), "summary": one.summary})
    extra = [Column(label) for label in ("PARAMETERS", "SINCE") if any(row[label.lower()] for row in rows)]
    return Result(rows=rows, columns=(Column("NAME"), Column("NOW"), *extra, Column("SUMMARY")))


@command(
    "machine",
    arg("name", PROFILE, "the kernel; without it, list them", nargs="?"),
    needs_machine=False,
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> profile v6.1
profile v6.1
""",
)
def profile(shell: Shell, args: Namespace) -> str | Result:
    """Choose the kernel whose behaviour is played from now on.

    A version without a profile, such as 6.8 or 6.12.107+deb13, is played by the newest that is not newer.
    """
    if args.name is None:
        current = shell.machine.mm.profile.name if shell.machine else None
        rows = [{"name": name, "now": name == current} for name in _profiles(shell)]
        return Result(rows=rows, columns=(Column("NAME"), Column("NOW")))
    from memshell.policy import since_of

    with shell.change() as mm:
        mm.profile = args.name.profile
        mm.profile.require(mm.arch.since, f"memory hotplug on {mm.arch.name}")
        mm.profile.require(since_of(mm.policy), f"the policy {mm.policy.name}")
    return "\n".join(line for line in (f"profile {mm.profile.name}", args.name.note) if line)


# --- set ---


def _settings(shell: Shell, prefix: str) -> Suggestions:
    from memshell.mm.params import PARAMETERS
    from memshell.profiles import DEFAULT_PROFILE

    name, equals, _value = prefix.partition("=")
    kernel = shell.machine.mm.profile if shell.machine else DEFAULT_PROFILE
    if equals and name in PARAMETERS:
        yield from ((f"{name}={value}", PARAMETERS[name].text) for value in PARAMETERS[name].values)
    yield from ((f"{name}=", parameter.text) for name, parameter in PARAMETERS.items())
    yield "memmap_on_memory=", "memory_hotplug.memmap_on_memory: the same as policy"
    yield from ((name, feature.text) for name, feature in kernel.features.declared().items())


SETTING = ArgType("NAME", TEXT.convert, _settings)
VALUE = ArgType("VALUE", TEXT.convert, lambda _s, _p: [("on", ""), ("off", "")])


@command(
    "machine",
    arg("name", SETTING, "a parameter or a feature; NAME=VALUE is the same as NAME VALUE", nargs="?"),
    arg("value", VALUE, "its value", nargs="?"),
    examples="""
> use x86_64 ram=2G
x86_64, <...>
> set online_policy=auto-movable
online_policy = auto-movable
> set node_notifier on
node_notifier = on
""",
)
def set_(shell: Shell, args: Namespace) -> str | Result:
    """Set a kernel parameter, or switch one feature of the kernel; without a value, show what it is.

    Parameters are written as in sysfs or on the kernel's command line (``memory_hotplug.`` before the name is
    read too).  Features are the single behaviours that a profile is made of; those of the series of 2017 to
    2019, check.* and others, exist in its own profiles alone.  ``set bug.* off`` is a kernel without the known bugs.
    """
    if args.name is None:
        return _list_settings(shell.need_machine().mm)
    name, equals, joined = args.name.partition("=")
    value = args.value if args.value is not None else joined
    name = name.removeprefix("memory_hotplug.")
    if not value and not equals:
        return _setting(shell.need_machine().mm, name)
    if not value:
        raise UsageError(f"set {name} to what?", hint=f"set {name} VALUE")
    with shell.change() as mm:
        return f"{name} = {_set(mm, name, value, shell)}"


def _set(mm: Mm, name: str, value: str, shell: Shell) -> str:
    from memshell.mm.params import PARAMETERS
    from memshell.policy import chosen
    from memshell.profiles import is_feature, unknown_feature

    if name == "memmap_on_memory":
        mm.policy = chosen(_policy_of_parameter(shell, value, mm.profile), {}, mm.profile)
        return value
    if name in PARAMETERS:
        mm.params = mm.params.with_text(name, _at_run_time(name, _exists(name, value, mm.profile)))
    elif name.endswith(".*") and (group := [known for known in mm.profile.features if known.startswith(name[:-1])]):
        for member in group:
            mm.profile = _with_feature(mm.profile, member, value)
    elif name in mm.profile.features:
        mm.profile = _with_feature(mm.profile, name, value)
    elif is_feature(name):
        raise unknown_feature(name, mm.profile)
    else:
        raise _unknown_setting(mm, name)
    return value


def _unknown_setting(mm: Mm, name: str) -> UsageError:
    from memshell.mm.params import PARAMETERS

    known = [*PARAMETERS, "memmap_on_memory", *mm.profile.features]
    return UsageError(f"unknown setting {name!r}", hint=did_you_mean(name, known) or "set alone lists them")


def _setting(mm: Mm, name: str) -> Result:
    """Return what a parameter or a feature is now.  Raises UsageError."""
    from memshell.profiles import is_feature, unknown_feature

    if name == "memmap_on_memory":
        row = {"name": name, "value": mm.policy.parameter, "text": f"policy {mm.policy.name}"}
    else:
        found = next((row for row in _settings_rows(mm) if row["name"] == name), None)
        if found is None:
            raise unknown_feature(name, mm.profile) if is_feature(name) else _unknown_setting(mm, name)
        row = found
    return Result(text=f"{name} = {row['value']}\n    {row['text']}", data=row)


def _policy_of_parameter(shell: Shell, value: str, kernel: Profile) -> Policy:
    if not kernel.features.memmap_on_memory.exists and not kernel.seam.memmap_from_range:
        raise UsageError(f"the kernel {kernel.name} has no memmap_on_memory", hint="it came with v5.13")
    if not kernel.seam.memmap_from_range:
        kernel.need_built(kernel.features.config.mhp_memmap_on_memory, "MHP_MEMMAP_ON_MEMORY")
    for candidate in shell.plugins.policies().values():
        if candidate.parameter.lower() == value.lower():
            return candidate
    values = sorted({candidate.parameter for candidate in shell.plugins.policies().values()})
    raise UsageError(f"memmap_on_memory={value} cannot be", hint="one of " + ", ".join(values))


_SWITCH = {"on": True, "off": False, "yes": True, "no": False, "1": True, "0": False}


def _with_feature(kernel: Profile, name: str, word: str) -> Profile:
    """Return *kernel* with a feature as it was typed."""
    kind = kernel.features.declared()[name].type
    value: object = word
    if kind is bool:
        value = _SWITCH.get(word, word)
    elif kind is int and word.isdecimal():
        value = int(word)
    return kernel.with_feature(name, value)


def _list_settings(mm: Mm) -> Result:
    return Result(rows=_settings_rows(mm), columns=(Column("NAME"), Column("VALUE"), Column("TEXT", drop=1)))


def _settings_rows(mm: Mm) -> list[dict[str, Any]]:
    from memshell.mm.params import PARAMETERS

    features = mm.profile.features
    texts = features.declared()
    rows = [
        {"name": name, "value": mm.params.text(name), "text": parameter.text} for name, parameter in PARAMETERS.items()
    ]
    rows += [
        {"name": name, "value": {True: "on", False: "off"}.get(value, value), "text": texts[name].text}
        for name, value in sorted(features.items())
    ]
    return rows
