"""Every kernel that can be played: the released ones, and the series of 2017 to 2019."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, make_dataclass, replace
from functools import cache
from typing import NamedTuple

from memshell.errors import UsageError
from memshell.mm.feature import build
from memshell.mm.features import Features
from memshell.mm.profile import RELEASES, Profile, released, unknown, version
from memshell.series import NAMES

VERSION = re.compile(r"v?\d+\.\d+([.+~_-].*)?")  # as people type it, or as uname -r shows it


class Kernels(Mapping[str, Profile]):
    """All kernels by name, with *own* of plugins, each as *extended* makes it; made when it is first asked for."""

    def __init__(self, own: Mapping[str, Profile], extended: Callable[[Profile], Profile]) -> None:
        self._own = own
        self._extended = extended
        self._made: dict[str, Profile] = {}

    def __getitem__(self, name: str) -> Profile:
        if name not in self._made:
            self._made[name] = self._extended(self._own[name] if name in self._own else _profile(name))
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in RELEASES or name in NAMES or name in self._own

    def __iter__(self) -> Iterator[str]:
        return iter((*RELEASES, *NAMES, *self._own))

    def __len__(self) -> int:
        return len(RELEASES) + len(NAMES) + len(self._own)


@cache
def _profile(name: str) -> Profile:
    if name in NAMES:
        from memshell.series.profiles import series_profile

        return series_profile(name)
    if name not in RELEASES:
        raise KeyError(name)
    return released(name)


PROFILES = Kernels({}, lambda kernel: kernel)

DEFAULT_PROFILE = PROFILES["v6.12"]  # of a machine whose kernel nobody names


def profile_of_release(release: str) -> str | None:
    """Return the newest released profile that is not newer than *release* (``6.12.107+deb13``); None where all are newer.

    >>> profile_of_release("6.14.3")  ->  "v6.12"
    """
    asked = version(release)
    return next((name for name in reversed(RELEASES) if version(name) <= asked), None)


def with_groups(kernel: Profile, groups: Mapping[str, type]) -> Profile:
    """Return *kernel* with the feature groups of plugins, each with its value in this kernel.

    Features begin with a release, or with the name of a profile.
    """
    if not groups:
        return kernel
    here = version(kernel.release)

    def reached(since: str) -> bool:
        asked = version(since) if VERSION.fullmatch(since) else ()
        return since == kernel.name or (bool(asked) and asked <= here)

    own: dict[str, object] = {name: build(group, reached) for name, group in groups.items()}
    kind = _extended(type(kernel.features), tuple(groups.items()))
    values = {item.name: getattr(kernel.features, item.name) for item in fields(kernel.features)}
    return replace(kernel, features=kind(**{**values, **own}))


@cache
def _extended(kind: type[Features], groups: tuple[tuple[str, type], ...]) -> type[Features]:
    return make_dataclass("Features", groups, bases=(kind,), frozen=True, slots=True, kw_only=True)


class Choice(NamedTuple):
    """The profile that stands for what was asked for, and the line that says so where it is another one."""

    profile: Profile
    note: str = ""


def choose_profile(word: str, profiles: Mapping[str, Profile] = PROFILES) -> Choice:
    """Return the profile of a kernel's name or version: ``rfc-2018``, ``v6.12``, ``6.8``, ``6.12.107+deb13``.

    A version without a profile of its own is played by the newest that is not newer. Raises `UsageError` for one that
    is older than all, and for a word that is neither, with the nearest right spelling.
    """
    if word in profiles:
        return Choice(profiles[word])
    if not is_profile(word):
        raise unknown("profile", word, profiles)
    name = profile_of_release(word.removeprefix("v"))
    if name is None:
        raise UsageError(f"no profile is as old as {word}", hint=f"{RELEASES[0]} is the oldest")
    exact = version(name) == version(word)
    return Choice(profiles[name], "" if exact else f"{name} is the newest profile that is not newer than {word}")


def is_profile(word: str) -> bool:
    """Whether *word* is the name of a profile or a version."""
    return word in PROFILES or VERSION.fullmatch(word) is not None


def find_profile(word: str) -> Profile:
    """Return the profile that `choose_profile` chooses."""
    return choose_profile(word).profile


def is_feature(name: str) -> bool:
    """Whether any kernel has a feature of that name."""
    return any(name in profile.features for profile in PROFILES.values())


def unknown_feature(name: str, kernel: Profile) -> UsageError:
    """Return the error for a feature that other kernels have, and *kernel* does not."""
    owners = [other.name for other in PROFILES.values() if name in other.features]
    return UsageError(f"kernel {kernel.name} has no {name}", hint="it is a feature of " + ", ".join(owners))
