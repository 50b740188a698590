from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.support.signed_in import Open, opened_site


@pytest.fixture
def opened(tmp_path: Path) -> AbstractAsyncContextManager[Open]:
    """The pages, before anybody has signed in."""
    return opened_site(tmp_path)
