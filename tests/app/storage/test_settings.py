"""What is said where the settings name no storage."""

import json

import pytest
from pydantic import SecretStr

from app.settings import Settings
from app.storage import StorageError, StorageSettingsError, check_storage, open_storage
from tests.bucket import KEY_ID, Bucket

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


@pytest.mark.parametrize("status", ["400", "401", "403", "404"])
def test_a_bucket_that_refuses_is_the_settings_fault(
    base: Settings, bucket: Bucket, status: str
) -> None:
    bucket.fail(status)

    with pytest.raises(StorageSettingsError, match="PST_STORAGE_OPTIONS are refused") as refused:
        check_storage(bucket.settings(base))

    assert status in str(refused.value)
    assert KEY_ID not in str(refused.value)


def test_a_bucket_that_is_not_there_is_the_settings_fault(base: Settings, bucket: Bucket) -> None:
    with pytest.raises(StorageSettingsError, match="404"):
        check_storage(bucket.settings(base, storage_url="s3://no-such-bucket"))


@pytest.mark.parametrize("do", ["429", "503", "hang"])
def test_a_bucket_that_does_not_answer_may_do_so_later(
    base: Settings, bucket: Bucket, do: str
) -> None:
    bucket.fail(do)

    with pytest.raises(StorageError):
        check_storage(bucket.settings(base, storage_timeout_seconds=0.3))


def test_a_bucket_that_lets_us_in_and_a_folder_are_nobodys_fault(
    base: Settings, bucket: Bucket
) -> None:
    check_storage(bucket.settings(base))
    check_storage(base)


@pytest.mark.parametrize("name", ["timeout", "connect_timeout", "user_agent"])
def test_an_option_of_the_connection_is_taken(name: str) -> None:
    settings = Settings(storage_url="s3://bucket", storage_options=SecretStr(f'{{"{name}": "5s"}}'))

    open_storage(settings)
