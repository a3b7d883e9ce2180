"""What the head of an upload says of the file that is to come."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import Headers

from app.problems import Problem
from pst_core.dataset_profile import FileKind

MEDIA_TYPES: Mapping[str, FileKind] = {
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/vnd.apache.parquet": "parquet",
}
# A dictionary of structured fields, in which other algorithms may stand besides (RFC 9530).
SHA256 = re.compile(r"(?:^|,)[ \t]*sha-256=(?P<value>[^,]*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """An upload as it is declared.

    Args:
        name: What it is to be called.
        format: Of its rows.
        gzip: Whether it says to be compressed; it may be so without.
        length: In bytes; None where it is sent in chunks.
        digests: The SHA-256 it is to have, by the header that says so.
    """

    name: str
    format: FileKind
    gzip: bool
    length: int | None
    digests: Mapping[str, bytes]


def read_offer(name: str, headers: Headers, digests: Mapping[str, str | None]) -> Offer:
    """What a request declares.

    Args:
        name: What the dataset is to be called.
        headers: What the file is, and how long.
        digests: What it is to hash to, by the header that says so.

    Raises:
        Problem: 415 where it is in no form that is read, 422 where a digest is malformed.
    """
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    coding = headers.get("content-encoding", "identity").strip().lower()
    length = headers.get("content-length")
    if media_type not in MEDIA_TYPES:
        raise _not_read("Content-Type", f"Send one of: {', '.join(MEDIA_TYPES)}.")
    format_name = MEDIA_TYPES[media_type]
    codings = ("identity",) if format_name == "parquet" else ("identity", "gzip")
    if coding not in codings:
        raise _not_read("Content-Encoding", f"Send this type with one of: {', '.join(codings)}.")
    return Offer(
        name=name,
        format=format_name,
        gzip=coding == "gzip",
        length=None if length is None else int(length),
        digests={
            header: found
            for header, value in digests.items()
            if (found := _digest(header, value or "")) is not None
        },
    )


def _digest(header: str, value: str) -> bytes | None:
    found = SHA256.search(value)
    if found is None:
        return None
    text = found["value"].strip()
    try:
        digest = base64.b64decode(text[1:-1], validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 256 // 8 or not (text.startswith(":") and text.endswith(":")):
        raise Problem(
            422,
            "invalid_request",
            f"{header}: its sha-256 is none.",
            field=header,
            remedy="Write it as sha-256=:BASE64:, of the 32 bytes (RFC 9530).",
        )
    return digest


def _not_read(header: str, remedy: str) -> Problem:
    return Problem(
        415,
        "unsupported_media_type",
        f"The {header} is none that datasets are read in.",
        field=header,
        remedy=remedy,
    )
