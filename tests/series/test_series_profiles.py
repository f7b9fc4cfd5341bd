"""The four versions of the series are kernels of their own: v4.20 with features that no released kernel has."""

from memshell.mm.features import Features
from memshell.mm.profile import RELEASES
from memshell.profiles import PROFILES
from memshell.series import NAMES
from memshell.series.features import CHECKS, SeriesFeatures

OWN = set(SeriesFeatures.declared()) - set(Features.declared())


def test_only_the_series_has_its_features():
    assert set(CHECKS) < OWN
    assert all(set(PROFILES[name].features) >= OWN for name in NAMES)
    assert not any(set(PROFILES[name].features) & OWN for name in RELEASES)


def test_all_checks_are_on_and_each_fault_is_on_in_a_version():
    assert all(PROFILES[name].features[check] for name in NAMES for check in CHECKS)
    for bug in (name for name in OWN if name.startswith("bug.")):
        assert any(PROFILES[name].features[bug] for name in NAMES), bug


def test_a_check_whose_name_python_would_mangle_is_switched_by_the_name_that_the_kernel_gave_it():
    kernel = PROFILES["rfc-2018"].with_feature("check.__kfree_section_memmap", value=False)
    assert kernel.features["check.__kfree_section_memmap"] is False
    assert PROFILES["rfc-2018"].features["check.__kfree_section_memmap"] is True


def test_what_came_after_v4_20_is_off_in_all_of_them():
    for name in NAMES:
        features = PROFILES[name].features
        assert not features.memmap_on_memory.exists
        assert not features.mhp.driver_managed
        assert not features.s390.removes_memory
        assert not features.bug.offline_counts_page_offline
