"""A recording: what a real kernel showed after boot and after each action. It is read here, and its machine is booted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memshell.capture.machine_file import problems
from memshell.capture.reader import boot_state, read_json
from memshell.errors import RecordingError
from memshell.machine import Machine
from memshell.mm.kconfig import built, configured
from memshell.mm.profile import Profile
from memshell.profiles import PROFILES, profile_of_release
from memshell.series.switches import prepare, switched_policy, switched_profile

if TYPE_CHECKING:
    from memshell.arch import Arch
    from memshell.policy import Policy

SCHEMA = "memshell-recording/1"


@dataclass(frozen=True)
class Recording:
    """One experiment on one kernel."""

    name: str
    path: str
    arch: str
    kernel: str
    config: dict[str, str]
    cmdline: str
    qemu_args: tuple[str, ...]
    steps: tuple[dict[str, Any], ...]
    raw: dict[str, Any]

    @property
    def release(self) -> str:
        """The kernel's release, as ``6.12.117``."""
        match = re.search(r"Linux version (\d+\.\d+(?:\.\d+)?)", self.kernel)
        return match.group(1) if match else ""

    @property
    def of_series(self) -> bool:
        """Whether the kernel is one with the 2018 series (top key ``rfc``)."""
        return "rfc" in self.raw

    @property
    def profile(self) -> Profile:
        """The newest released profile that is not newer than the kernel, as it was built; or the series, as switched."""
        if self.of_series:
            return switched_profile(self.cmdline, self.raw["rfc"]["build"])
        name = profile_of_release(self.release)
        if name is None:
            raise RecordingError(f"{self.name}: no profile fits kernel {self.release or self.kernel!r}")
        return built(PROFILES[name], self.config)

    def policy(self, policies: Mapping[str, Policy]) -> Policy:
        """Return the policy of the kernel's memmap_on_memory parameter, or the one that the series leaves no choice about."""
        if self.of_series:
            return policies[switched_policy(self.cmdline, self.raw["rfc"]["build"])]
        parameter = self.steps[0]["state"].get("params", {}).get("memmap_on_memory", "N")
        return next((one for one in policies.values() if one.parameter == parameter), policies["buddy"])


def load_recording(path: str | Path) -> Recording:
    """Read ``NAME.json`` or ``NAME.json.xz``. Raises `RecordingError` that says what is wrong with it."""
    return recording_of(read_json(path, "recording"), path)


def recording_of(raw: Any, path: str | Path) -> Recording:
    """Return the recording that the file at *path* holds. Raises `RecordingError` for what is none."""
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
        raise RecordingError(f"{path} has schema {found!r}; this memshell reads {SCHEMA!r}")
    try:
        recording = Recording(
            str(raw["name"]),
            str(path),
            str(raw["arch"]),
            str(raw["kernel"]),
            dict(raw.get("config", {})),
            str(raw.get("cmdline", "")),
            tuple(raw.get("qemu_args", ())),
            tuple(raw["steps"]),
            raw,
        )
        boot = recording.steps[0]
        if boot["op"]["op"] != "boot" or "zones" not in boot["state"]:
            raise RecordingError(f"{path} does not begin with a boot state")
        words = [*recording.config, *recording.config.values(), *recording.qemu_args]
        wrong = (
            "its config and qemu_args are not all text" if not all(isinstance(word, str) for word in words) else None
        )
        wrong = wrong or next(problems(boot["state"]), None)
        if wrong is not None:
            raise RecordingError(f"{path}: {wrong}")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise RecordingError(f"{path} lacks {error}; is it whole?") from error
    return recording


def boot_recording(
    recording: Recording, arches: Mapping[str, Arch], profile: Profile, policy: Policy, command: str = "boot"
) -> Machine:
    """Return a machine in the recording's boot state.

    Raises `RecordingError` for an architecture that no plugin has, and for a state whose parts are missing.
    """
    base = next((one for one in arches.values() if one.is_machine(recording.arch)), None)
    if base is None:
        raise RecordingError(f"{recording.name}: no plugin for architecture {recording.arch!r}")
    state = recording.steps[0]["state"]
    # What fails in here is the architecture's own: what every recording has was looked at when it was loaded.
    arch = base.from_recording(recording.config, recording.cmdline, recording.qemu_args, state, profile)
    try:
        mm = boot_state(arch, profile, policy, state, recording.cmdline, configured(recording.config))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordingError(
            f"{recording.name}: its boot state lacks {error}, or has another kind of value there"
        ) from error
    except RecordingError as error:
        raise RecordingError(f"{recording.name}: {error.message}", hint=error.hint) from error
    prepare(mm, recording.cmdline)
    return Machine(mm, command)
