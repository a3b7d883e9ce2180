"""Secrets are taken out of text: by their value, and by what they look like."""

import pytest
from pydantic import SecretStr

from app.logs.redaction import HIDDEN, Redactor, secrets_of
from app.security import KEY as KEY_SHAPE
from app.settings import Settings
from app.webhooks.signing import secret_of

KEY_ID = "0123abcd"
KEY = f"pst_{KEY_ID}_{'kEy_-' * 8}kEy"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"the key {KEY} is bad", KEY[13:]),
        ("token hf_abcdefghijklmnopqrstuvwx is gated", "abcdefghijklmnopqrstuvwx"),
        (f"signed by {secret_of(b'k' * 32, 'whe_1', 1)}", secret_of(b"k" * 32, "whe_1", 1)[6:]),
        ("id AKIAIOSFODNN7EXAMPLE of it", "IOSFODNN7EXAMPLE"),
        ("cannot reach postgresql+psycopg://pst:s3cr3t@db:5432/pst", "s3cr3t"),
        ("cannot reach redis://:s3cr3t@broker", "s3cr3t"),
        ("{'Authorization': 'Bearer abc.def.ghijk'}", "abc.def.ghijk"),
        ("[(b'authorization', b'Basic dXNlcjpwYXNz')]", "dXNlcjpwYXNz"),
        ("Bearer abc.def.ghijk", "abc.def.ghijk"),
        ("GET /x?token=abcdefgh&x=1", "abcdefgh"),
        ("https://b.s3/k?X-Amz-Signature=0123abcd", "0123abcd"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI/K7MDENG"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, secret: str) -> None:
    hidden = Redactor()(text)

    assert secret not in hidden
    assert HIDDEN in hidden


def test_a_key_looks_like_the_one_here() -> None:
    assert KEY_SHAPE.fullmatch(KEY)


def test_which_key_it_was_can_still_be_told() -> None:
    assert f"pst_{KEY_ID}_{HIDDEN}" in Redactor()(KEY)


@pytest.mark.parametrize(
    "text",
    [
        "job_019ad5: attempt 3 expired: requeued",
        "tokenizer: WordPiece, max_tokens=512",
        "the model hub:org/name@0123456789abcdef",
        "http://127.0.0.1:8000/jobs",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert Redactor()(text) == text


def test_what_an_installation_keeps_to_itself_is_hidden_wherever_it_stands(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "storage-canary")
    given = settings.model_copy(
        update={
            "database_url": "postgresql+psycopg://pst:data%2Fbase-canary@db/pst",
            "broker_url": "redis://:broker-canary@broker/0",
            "hub_token": SecretStr("hub-canary"),
            "webhook_key": SecretStr("webhook-canary"),
        }
    )
    text = "x storage-canary data%2Fbase-canary data/base-canary broker-canary hub-canary"

    hidden = Redactor(secrets_of(given))(f"{text} webhook-canary")

    assert "canary" not in hidden


def test_a_secret_that_another_begins_with_leaves_nothing_of_that() -> None:
    assert Redactor(["secret", "secret-and-more"])("secret-and-more") == HIDDEN


def test_what_is_too_short_to_be_one_hides_no_words() -> None:
    assert Redactor(["pst", ""])("pst-service") == "pst-service"


def test_each_text_of_a_storages_options_is_hidden() -> None:
    options = SecretStr('{"access_key_id": "canary-id", "secret_access_key": "canary-secret"}')
    secrets = secrets_of(Settings(storage_url="s3://bucket", storage_options=options))

    assert Redactor(secrets)("canary-secret of canary-id") == f"{HIDDEN} of {HIDDEN}"
