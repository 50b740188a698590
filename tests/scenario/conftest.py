"""The office of most scenarios; those that need another one say so themselves."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest

from tests.support.anchored import AnchoredPlane
from tests.support.office import Office, faultless_office


@pytest.fixture
def plane() -> AnchoredPlane:
    return AnchoredPlane()


@pytest.fixture
def office(plane: AnchoredPlane) -> AbstractAsyncContextManager[Office]:
    return faultless_office(plane)
