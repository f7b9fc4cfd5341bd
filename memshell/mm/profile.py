"""A kernel's behaviour as named features; a version is a name for one set of values.

The released kernels are here; `memshell.profiles` has all that can be played.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from memshell.errors import UsageError
from memshell.mm.feature import build
from memshell.mm.features import Features
from memshell.mm.seam import UPSTREAM, Upstream

# Released kernels, oldest first.
RELEASES = (
    *("v5.10", "v5.15"),
    *("v6.1", "v6.6", "v6.12", "v6.16", "v6.17", "v6.18", "v6.19"),
    *("v7.0", "v7.1", "v7.2", "v7.3"),
)


@dataclass(frozen=True, slots=True)
class Profile:
    """A kernel: a name, the value of every feature, and what it does at the seams."""

    name: str
    features: Features
    seam: Upstream = UPSTREAM
    base: str = ""  # the release that a vendor's kernel is made from; without it, the name

    @property
    def release(self) -> str:
        """The released kernel that this is, or is made from."""
        return self.base or self.name

    def has(self, since: str) -> bool:
        """Whether this kernel is as new as what came with the release *since*; "" came with all."""
        return not since or version(self.release) >= version(since)

    def require(self, since: str, what: str) -> None:
        """Raise `UsageError` when this kernel is older than the release *since* that *what* came with."""
        if self.has(since):
            return
        first = next((name for name in RELEASES if version(name) >= version(since)), "")
        hint = f"such as profile={first}" if first else "no profile is that new"
        raise UsageError(f"{what} is there since {since}, the kernel is {self.name}", hint=hint)

    def need_built(self, there: bool, name: str) -> None:
        """Raise `UsageError` unless this kernel was built with the option that is called *name*, as *there* says."""
        if not there:
            feature = f"config.{name.lower()}"
            hint = f"{feature} is off: its configuration says so, or it was switched"
            raise UsageError(f"the kernel {self.name} was built without CONFIG_{name}", hint=hint)

    def called(self, name: str) -> Profile:
        """Return this profile under another name: a vendor's kernel, made from this one."""
        return replace(self, name=name, base=self.release)

    def with_feature(self, name: str, value: Any) -> Profile:
        """Return this profile with one feature changed.

        Raises `UsageError` for a name that does not exist, and for a value that the feature cannot have.
        """
        if name not in self.features:
            raise unknown("feature", name, self.features)
        return replace(self, features=self.features.changed(name, value))


def unknown(what: str, name: str, known: Mapping[str, Any]) -> UsageError:
    """Return the error for a name that is not among the known ones, with the nearest right spelling."""
    near = get_close_matches(name, list(known), 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return UsageError(f"unknown {what} {name!r}", hint=hint)


def version(text: str) -> tuple[int, ...]:
    """Return the major and minor number of a kernel version (``v6.12``, ``6.12.107+deb13``); () where there is none."""
    match = re.match(r"v?(\d+)\.(\d+)", text)
    return tuple(map(int, match.groups())) if match else ()


def released(name: str) -> Profile:
    """Return the profile of a released kernel."""
    here = version(name)
    return Profile(name, build(Features, lambda since: version(since) <= here))
