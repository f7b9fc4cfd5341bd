"""A real machine as a file: `collect` reads it from /proc and /sys, `machine_file` boots the model from it.

The file's `state` has the shape of a recorded state, and one reader (`reader`) makes boot memory of both. A recording
(`recording`) has a state after boot and one after each action.
"""

from __future__ import annotations

from memshell.capture.collect import capture
from memshell.capture.machine_file import MachineFile, boot_file, load_machine_file, policy_of, profile_of

__all__ = ["MachineFile", "boot_file", "capture", "load_machine_file", "policy_of", "profile_of"]
