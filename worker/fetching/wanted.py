"""Which files of a repository a job needs: weights, configuration and tokenizer, or rows.

Nothing else is ever downloaded: no code, and nothing that is unpickled.
"""

import re
from collections.abc import Sequence

from pst_core.errors import InvalidDatasetError, UnsupportedModelError
from pst_core.readers import SPLIT_FILE
from pst_core.roles import SPLIT_NAMES
from worker.fetching.repository import RemoteFile

WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DESCRIBING = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "bpe.codes",
        "dict.txt",
        "tokenizer.model",
        "spiece.model",
        "sentencepiece.bpe.model",
        "chat_template.json",
        "chat_template.jinja",
    }
)
ROWS = (".csv", ".tsv", ".jsonl", ".parquet")
SPLIT_WORDS = frozenset(word for words in SPLIT_NAMES.values() for word in words)
# Of what FetchedEvent and every file system take.
ROWS_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}")


def model_files(files: Sequence[RemoteFile], repository: str) -> list[RemoteFile]:
    """What to download of a model, the small files first: they may show that it is not wanted.

    Raises:
        UnsupportedModelError: It has no config.json or no safetensors.
    """
    top = {file.path: file for file in files if "/" not in file.path}
    weights = [file for name, file in top.items() if WEIGHTS.fullmatch(name)]
    # As transformers does: one file goes before shards.
    weights = [top[WHOLE]] if WHOLE in top else weights
    if "config.json" not in top or not weights:
        lacking = "model*.safetensors" if "config.json" in top else "config.json"
        raise UnsupportedModelError(
            f"{repository} has no {lacking}.",
            field="model",
            remedy="Use a repository with weights as safetensors; others, which are pickled "
            "programs, are never opened.",
        )
    describing = [file for name, file in top.items() if name in DESCRIBING]
    if WHOLE not in top and INDEX in top:
        describing.append(top[INDEX])
    return [*describing, *weights]


def dataset_files(
    files: Sequence[RemoteFile], part: str | None, repository: str
) -> tuple[list[RemoteFile], str | None]:
    """What to download of a dataset.

    Args:
        files: All of the repository's.
        part: The folder to look in; None: the repository itself, or else its folder `data`.
        repository: For messages.

    Returns:
        The files of its splits and None; or its only file of rows, and the name of that.

    Raises:
        InvalidDatasetError: There is neither.
    """
    folders = [part] if part else ["", "data"]
    rows = [
        [file for file in files if _lies_in(file, folder) and _has_rows(file)] for folder in folders
    ]
    for found in rows:
        if splits := [file for file in found if _is_of_a_split(file)]:
            return splits, None
    for found in rows:
        if len(found) == 1:
            return found, found[0].name
    there = sorted({file.path.rpartition("/")[0] for file in files if _has_rows(file)} - {""})
    raise InvalidDatasetError(
        f"{repository} has neither files for train and test nor one file of rows "
        f"({', '.join(ROWS)}) in {' or '.join(folder or 'its top folder' for folder in folders)}.",
        field="dataset.ref",
        remedy=f"Name a folder: hub:ORG/NAME/FOLDER. It has: {', '.join(there[:20]) or 'none'}.",
    )


def _lies_in(file: RemoteFile, folder: str) -> bool:
    return file.path.rpartition("/")[0] == folder


def _has_rows(file: RemoteFile) -> bool:
    return file.name.endswith(ROWS) and ROWS_NAME.fullmatch(file.name) is not None


def _is_of_a_split(file: RemoteFile) -> bool:
    found = SPLIT_FILE.fullmatch(file.name)
    return found is not None and found["name"] in SPLIT_WORDS
