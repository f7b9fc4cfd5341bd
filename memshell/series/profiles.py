"""The four published versions of the series as profiles: v4.20, and what each of them does to it."""

from __future__ import annotations

from memshell.mm.feature import build
from memshell.mm.profile import Profile
from memshell.series import NAMES
from memshell.series.features import SeriesFeatures
from memshell.series.strategy import SERIES


def series_profile(name: str) -> Profile:
    """Return the profile of one version: it has reached no released kernel, and the versions before it."""
    reached = NAMES[: NAMES.index(name) + 1]
    return Profile(name, build(SeriesFeatures, lambda since: since in reached), SERIES)
