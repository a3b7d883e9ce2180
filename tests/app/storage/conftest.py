"""Both kinds of storage, empty."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import Settings
from app.storage import Storage, open_storage
from tests.bucket import Bucket


@pytest.fixture
def base(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data")


@pytest.fixture
def remote(base: Settings, bucket: Bucket) -> Storage:
    return bucket.storage(base)


@pytest.fixture(params=["local", "remote"])
def storage(request: pytest.FixtureRequest, base: Settings) -> Iterator[Storage]:
    if request.param == "local":
        yield open_storage(base)
    else:
        yield request.getfixturevalue("remote")
