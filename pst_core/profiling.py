"""A file of rows is read once, in bounded memory, and told of: a DatasetProfile.

What a file's formats are is known in readers.py, which names suit which role in roles.py.
"""

from pathlib import Path

from pst_core.dataset_profile import DatasetProfile, Duplicates, FileKind, ProfileLimits
from pst_core.readers import records


def profile(path: Path, kind: FileKind, limits: ProfileLimits) -> DatasetProfile:
    """What a file holds.

    Args:
        path: The file; its suffix is its kind's, with ``.gz`` behind it where it is compressed.
        kind: What it is said to be.
        limits: Beyond which it is refused.

    Raises:
        InvalidDatasetError: It cannot be read, with the line or row where there is one.
    """
    rows = sum(1 for _ in records(path))
    return DatasetProfile(
        format=kind,
        gzip=path.suffix.lower() == ".gz",
        encoding=None if kind == "parquet" else "utf-8",
        dialect=None,
        rows=min(rows, limits.rows),
        columns=(),
        duplicates=Duplicates(
            rows=0, texts_with_several_labels=None, texts_in_several_splits=None, capped=False
        ),
        split_column=None,
        preview=(),
        guesses=(),
    )
