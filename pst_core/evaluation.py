"""Scores a finished checkpoint on data that a spec describes; nothing is trained or written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pst_core.errors import SpecError
from pst_core.formats.manifest import MANIFEST, read_manifest
from pst_core.loading import load
from pst_core.prepare import Prepared, Sources, prepare
from pst_core.pretrained import to_device
from pst_core.references import DataSource
from pst_core.report import Scores
from pst_core.spec import CompressionSpec


def recorded_spec(folder: Path) -> CompressionSpec:
    """The spec a checkpoint was made by.

    Raises:
        SpecError: The folder does not say.
        CheckpointCorruptError: Its manifest cannot be read.
    """
    if not (folder / MANIFEST).is_file():
        raise SpecError(
            f"{folder} has no {MANIFEST}, which would say what it is to be evaluated on.",
            remedy="Give a spec with the dataset and the task.",
        )
    return read_manifest(folder).outcome.spec


def evaluate(folder: Path, spec: CompressionSpec, dataset: DataSource) -> Scores:
    """Score a checkpoint, dense or packed, on the spec's test split.

    Raises:
        CheckpointCorruptError: The checkpoint is not what it should be.
        SpecError: The classes of the data are not those of the model.
        PstError: The subclass says what was wrong with the data.
    """
    model, _ = load(folder)
    prepared = prepare(spec, Sources(model=folder, dataset=dataset), splits=("test",))
    _check_labels(model.config.id2label or {}, prepared)
    return prepared.score(to_device(model), "test").scores


def _check_labels(names: Mapping[Any, str], prepared: Prepared) -> None:
    labels = prepared.data.labels
    # Scored on classes in another order, a good model would look like a bad one.
    if labels and names != dict(enumerate(labels)):
        raise SpecError(
            f"The model's classes are {', '.join(names.values())}; the data's are "
            f"{', '.join(labels)}.",
            field="dataset.columns.label",
            remedy="Name the column that holds the classes the model was made for.",
        )
