"""One running service for all end-to-end tests, in a folder with a space below a private one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import backends
from tests.e2e.service import Service


@pytest.fixture(scope="session")
def shared_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that ``file:`` references lead into."""
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, shared_files: Path) -> Iterator[Service]:
    private = tmp_path_factory.mktemp("private")
    private.chmod(0o700)
    with backends.chosen() as variables:
        variables |= {"PST_FILE_ROOTS": str(shared_files), "PST_RENEW_SECONDS": "1"}
        service = Service(private / "my data", **variables)
        yield service
        assert service.stop() == []
