"""Secrets of endpoints and signatures by them, as Standard Webhooks has both.

No secret is stored: it is made of the installation's key, the endpoint's id and a number.
"""

import base64
import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from pathlib import Path

from app.settings import Settings

KEY_BYTES = 32
KEY_FILE = "webhook.key"


def installation_key(settings: Settings) -> bytes:
    """What all secrets are made of: of the settings, else of a file in the data folder.

    The file is made by who asks first; the API and the workers share the folder.
    """
    if settings.webhook_key is not None:
        return settings.webhook_key.get_secret_value().encode()
    path = settings.data / KEY_FILE
    if not path.exists():
        _make_key(path)
    return path.read_bytes()


def fingerprint(key: bytes) -> str:
    """Tells keys apart, and nothing of them."""
    return hashlib.sha256(b"fingerprint of " + key).hexdigest()[:16]


def secret_of(key: bytes, endpoint_id: str, version: int) -> str:
    """What an endpoint's owner is shown once."""
    made = hmac.digest(key, f"{endpoint_id}/{version}".encode(), "sha256")
    return "whsec_" + base64.b64encode(made).decode()


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """One signature of a message; several of them stand in a header with spaces between."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def _make_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    file = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(file, secrets.token_bytes(KEY_BYTES))
        os.fsync(file)
    finally:
        os.close(file)
    # Whole or not at all, and the first one stays.
    with suppress(FileExistsError):
        path.hardlink_to(written)
    written.unlink()
