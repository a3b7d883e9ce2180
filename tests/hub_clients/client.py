"""What a client of another release does with a service; run by an interpreter that has that one.

``python client.py ENDPOINT TOKEN REPO UNFINISHED CACHE``: prints what came of it, as JSON.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, HfFileSystem, __version__

MIB = 1 << 20


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def raised(call: Callable[[], object]) -> str:
    """The name of what a call raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001 -- which one it is, is what is asked
        return type(error).__name__
    return "nothing"


def resumed(download: Callable[[], str]) -> Path:
    """What a download gives that is cut once: releases before 1.0 go on only when asked again."""
    if __version__.startswith("0."):
        raised(download)
    return Path(download())


def mismatches(api: HfApi, repo: str, cache: str) -> int | None:
    """How many files differ from what the hub declares; None where the client has no such check."""
    if not hasattr(api, "verify_repo_checksums"):
        return None
    return len(api.verify_repo_checksums(repo, revision="packed", cache_dir=cache).mismatches)


def read_part(endpoint: str, token: str, repo: str) -> str:
    files = HfFileSystem(endpoint=endpoint, token=token, skip_instance_cache=True)
    with files.open(f"{repo}/large.bin", "rb", block_size=MIB) as file:
        file.seek(5 * MIB + 3)
        return str(file.read(1000).hex())


def main(endpoint: str, token: str, repo: str, unfinished: str, cache: str) -> dict[str, Any]:
    api = HfApi(endpoint=endpoint, token=token)
    cut = resumed(lambda: api.hf_hub_download(repo, "large.bin", cache_dir=cache))
    folder = Path(api.snapshot_download(repo, revision="packed", cache_dir=cache))
    return {
        "version": __version__,
        "cut": sha256(cut),
        "snapshot": {path.name: sha256(path) for path in folder.iterdir()},
        "mismatches": mismatches(api, repo, cache),
        "part": read_part(endpoint, token, repo),
        "wrong token": raised(lambda: api.model_info(repo, token="pst_wrong")),  # noqa: S106
        "no token": raised(lambda: api.model_info(repo, token=False)),
        "unfinished": raised(lambda: api.hf_hub_download(unfinished, "a", cache_dir=cache)),
        "revision": raised(lambda: api.hf_hub_download(repo, "a", revision="v9", cache_dir=cache)),
        "snapshot of no revision": raised(
            lambda: api.snapshot_download(repo, revision="v9", cache_dir=cache)
        ),
        "job": raised(lambda: api.model_info("jobs/job_0")),
        "file": raised(lambda: api.hf_hub_download(repo, "no.txt", cache_dir=cache)),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
