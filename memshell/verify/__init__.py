"""Replay what a real kernel did, and compare every quantity that it printed.

A recording (``memshell-recording/1``) starts with the state after boot; from there the model plays the recorded
actions and predicts. What the guest's own programs had in kernel zones is not a consequence of hotplug: it is read from
the recording as an input (`memshell.verify.inputs`), and what follows from it is predicted.
"""

from __future__ import annotations

from memshell.capture.recording import Recording, load_recording
from memshell.verify.quantity import Quantity, Verdict, summary
from memshell.verify.report import verify_recording

__all__ = ["Quantity", "Recording", "Verdict", "load_recording", "summary", "verify_recording"]
