"""Every kernel that can be played: the released ones, and the series of 2017 to 2019."""

from __future__ import annotations

from memshell.errors import UsageError
from memshell.mm.profile import RELEASES, Profile, released, unknown, version
from memshell.series.profiles import NAMES, series_profile

PROFILES: dict[str, Profile] = {
    **{name: released(name) for name in RELEASES},
    **{name: series_profile(name) for name in NAMES},
}


def profile_of_release(release: str) -> str | None:
    """Return the newest released profile that is not newer than *release* (``6.12.107+deb13``); None where all are newer.

    >>> profile_of_release("6.14.3")  ->  "v6.12"
    """
    asked = version(release)
    return next((name for name in reversed(RELEASES) if version(name) <= asked), None)


def find_profile(name: str) -> Profile:
    """Return the profile *name* (``v6.12`` or ``6.12``). Raises `UsageError` with the nearest right name."""
    found = PROFILES.get(name) or PROFILES.get(f"v{name}")
    if found is None:
        raise unknown("profile", name, PROFILES)
    return found


def is_feature(name: str) -> bool:
    """Whether any kernel has a feature of that name."""
    return any(name in profile.features for profile in PROFILES.values())


def unknown_feature(name: str, kernel: Profile) -> UsageError:
    """Return the error for a feature that other kernels have, and *kernel* does not."""
    owners = [other.name for other in PROFILES.values() if name in other.features]
    return UsageError(f"kernel {kernel.name} has no {name}", hint="it is a feature of " + ", ".join(owners))
