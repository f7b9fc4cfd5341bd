"""The four versions of the series are values of features that exist, each with a line of text."""

import pytest

from memshell.mm.profile import FEATURES, PROFILES, RELEASES
from memshell.series.features import BUGS, CHECKS, CHOICES, SERIES_PROFILES


@pytest.mark.parametrize("name", SERIES_PROFILES)
def test_a_profile_changes_features_that_exist(name):
    assert set(SERIES_PROFILES[name]) <= set(FEATURES)
    assert set(PROFILES[name].features) == set(PROFILES[RELEASES[0]].features)
    assert all(PROFILES[name].features[check] for check in CHECKS)
    for feature, choices in CHOICES.items():
        assert PROFILES[name].features[feature] in choices


def test_each_fault_is_on_in_a_version_and_off_in_released_kernels():
    for bug in BUGS:
        assert any(PROFILES[name].features[bug] for name in SERIES_PROFILES), bug
        assert not any(PROFILES[release].features[bug] for release in RELEASES), bug


def test_every_switch_has_a_line_of_text():
    assert all(FEATURES[name].text for name in (*BUGS, *CHECKS, *CHOICES))
