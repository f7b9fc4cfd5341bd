"""A mounted machine of each architecture."""

import pytest
from mounted_guest import MACHINES, guest_of


@pytest.fixture(params=MACHINES)
def guest(request, tmp_path):
    with guest_of(MACHINES[request.param], tmp_path / "root") as made:
        yield made
