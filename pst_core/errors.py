"""Everything that can go wrong in pst_core, as one tree of types.

How a failure is shown (HTTP, job row, terminal) is decided by whoever catches it, not here.

    PstError
    ├── SpecError               the spec contradicts itself
    ├── InvalidDatasetError     the data cannot be used, with the row where there is one
    ├── ModelNotFoundError      the reference leads to no model
    ├── ModelGatedError         the hub keeps the model from whom the token is
    ├── DatasetNotFoundError    the hub, or the project, has no such dataset
    ├── DatasetGatedError       the hub keeps the dataset from whom the token is
    ├── HubDisabledError        this installation fetches nothing from a hub
    ├── HubUnavailableError     the hub did not give what it says it has
    ├── BaselineNotFoundError   the job that was named as baseline has no dense model
    ├── BaselineMismatchError   it has one of another model, other data or another seed
    ├── UnsupportedModelError   there is a model, and nothing in it that can be pruned
    ├── NonFiniteLossError      the training diverged, with the step
    ├── SparsityMissedError     what was exported is not as sparse as was asked
    ├── NotCompactableError     no head and no neuron can be taken out of every layer
    ├── NotInstalledError       an optional package is needed and is not there
    └── CheckpointError         a checkpoint's bytes are not what they should be, with the tensor
        ├── CheckpointCorruptError
        ├── CheckpointVersionError
        ├── BaseMismatchError   an adapter was made from another base model
        └── SnapshotError       a snapshot of a run cannot be gone on from
            └── ForeignSnapshotError    it is whole, and another run's or a newer release's
"""

from typing import ClassVar


class PstError(Exception):
    """A failure with a stable code, the field it concerns and what the user can do.

    Args:
        message: What happened, in one sentence.
        field: The field of the spec it concerns, dotted (``dataset.columns.label``).
        remedy: What to change to get past it.
    """

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, field: str | None = None, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".rstrip()


class SpecError(PstError):
    code = "invalid_spec"


class InvalidDatasetError(PstError):
    code = "invalid_dataset"


class ModelNotFoundError(PstError):
    code = "model_not_found"


class ModelGatedError(PstError):
    code = "model_gated"


class DatasetNotFoundError(PstError):
    code = "dataset_not_found"


class DatasetGatedError(PstError):
    code = "dataset_gated"


class HubDisabledError(PstError):
    code = "hub_disabled"


class HubUnavailableError(PstError):
    code = "hub_unavailable"
    retryable = True


class BaselineNotFoundError(PstError):
    code = "baseline_not_found"


class BaselineMismatchError(PstError):
    code = "baseline_mismatch"


class UnsupportedModelError(PstError):
    code = "unsupported_model"


class NonFiniteLossError(PstError):
    code = "non_finite_loss"


class SparsityMissedError(PstError):
    code = "sparsity_missed"


class NotCompactableError(PstError):
    code = "not_compactable"


class NotInstalledError(PstError):
    code = "not_installed"


class CheckpointError(PstError):
    code = "invalid_checkpoint"


class CheckpointCorruptError(CheckpointError):
    """Truncated, altered or malformed bytes."""


class CheckpointVersionError(CheckpointError):
    """Written by a newer release than this one."""


class BaseMismatchError(CheckpointError):
    """The base model is not the one that the adapter was made from."""


class SnapshotError(CheckpointError):
    """A snapshot is torn or altered."""


class ForeignSnapshotError(SnapshotError):
    """Made by another spec, from other data or another model, or by a newer release."""
