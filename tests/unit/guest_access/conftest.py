"""The sandbox, once for each shell that guests have as /bin/sh."""

from pathlib import Path

import pytest

from tests.unit.guest_access.sandbox import Sandbox


@pytest.fixture(params=["dash", "bash"])
def sandbox(request: pytest.FixtureRequest, tmp_path: Path) -> Sandbox:
    return Sandbox(tmp_path / "guest of o'tests $(x)", f"/bin/{request.param}")
