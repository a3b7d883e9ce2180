"""What is said where the settings name no storage."""

import json

import pytest
from pydantic import SecretStr

from app.settings import Settings
from app.storage import StorageSettingsError, open_storage

SECRET = "AKIAplantedplanted"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://bucket", {"bogus": SECRET}),
        ("s3://bucket", {"allow_http": "perhaps", "secret_access_key": SECRET}),
    ],
    ids=["no such option", "no such value"],
)
def test_an_option_that_the_provider_does_not_have_is_named_and_no_secret(
    url: str, options: dict[str, str]
) -> None:
    settings = Settings(storage_url=url, storage_options=SecretStr(json.dumps(options)))

    with pytest.raises(StorageSettingsError, match="PST_STORAGE_OPTIONS") as refused:
        open_storage(settings)

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("name", ["timeout", "connect_timeout", "user_agent"])
def test_an_option_of_the_connection_is_taken(name: str) -> None:
    settings = Settings(storage_url="s3://bucket", storage_options=SecretStr(f'{{"{name}": "5s"}}'))

    open_storage(settings)
