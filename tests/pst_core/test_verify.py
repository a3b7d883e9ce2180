"""Where a sparsity is not one number a matrix, an export is held to more: forged ones are refused.

Plain exports, and files that were altered, are test_compress.py's.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pst_core.errors import CheckpointCorruptError, SparsityMissedError
from pst_core.formats.mask_coding import Mask
from pst_core.prepare import Sources
from pst_core.references import DataSource
from tests.pst_core import tiny
from tests.pst_core.exports import WEIGHTS, Export, edit_manifest, masks_of, repack, run

HYPER = {"epochs": 1, "batch_size": 16, "rank": 2, "score_rank": 2, "max_length": 32}
KEY = "bert.encoder.layer.1.attention.self.key.weight"
FUSED = "transformer.h.1.attn.c_attn.weight"
Masks = dict[str, Mask]


def exported(folder: Path, **changes: object) -> Export:
    return run(folder, folder / "out", changes={"hyperparameters": HYPER, **changes})


@pytest.fixture(scope="module")
def of_global_scope(tmp_path_factory: pytest.TempPathFactory) -> Export:
    return exported(tmp_path_factory.mktemp("global"), method="magnitude", scope="global")


@pytest.fixture(scope="module")
def of_a_pattern(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("pattern")
    return exported(folder, method="magnitude", pattern="2:4", sparsity=None)


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("fused")
    texts = [(text,) for text, _ in tiny.toy_rows(60)]
    data = DataSource(path=tiny.save_csv(folder / "texts.csv", texts, columns=("text",)))
    sources = Sources(model=tiny.save_language_model(folder / "model"), dataset=data)
    changes = {
        "task": "causal-lm",
        "method": "magnitude",
        "dataset": "file:texts.csv",
        "hyperparameters": HYPER,
    }
    return run(folder, folder / "out", sources=sources, changes=changes)


def forge(
    export: Export, folder: Path, edit: Callable[[Masks], None], claims: Mapping[str, int]
) -> Export:
    """The export with another packed folder, whose weights and hashes fit its masks.

    Args:
        export: The honest one.
        folder: Where to.
        edit: Changes the masks.
        claims: By how many entries more each matrix is said to be pruned.
    """
    forged, dense = (
        export.copy(folder / "forged"),
        Path(copytree(export.out / "dense", folder / "d")),
    )
    masks = masks_of(forged)
    edit(masks)
    weights = load_file(dense / WEIGHTS)
    for name, mask in masks.items():
        weights[name] = np.where(mask, weights[name], np.float32(0))
    save_file(weights, dense / WEIGHTS, metadata={"format": "pt"})
    repack(forged, dense, masks)

    def claim(outcome: dict[str, object]) -> None:
        matrices = outcome["matrices"]
        assert isinstance(matrices, list)
        for matrix in matrices:
            matrix["pruned"] += claims.get(matrix["name"], 0)

    edit_manifest(forged.out / "packed", claim)
    return forged


def first(mask: Mask, *, kept: bool) -> tuple[int, ...]:
    return tuple(np.argwhere(mask == kept)[0])


def prune_one_more(masks: Masks) -> None:
    masks[KEY][first(masks[KEY], kept=True)] = False


def test_one_more_zero_is_refused_where_the_manifest_does_not_tell(
    of_global_scope: Export, tmp_path: Path
) -> None:
    forged = forge(of_global_scope, tmp_path, prune_one_more, {})
    with pytest.raises(SparsityMissedError, match=rf"{KEY} is not pruned as its pst\.json says"):
        forged.verify()


def test_one_more_zero_is_refused_where_the_manifest_tells(
    of_global_scope: Export, tmp_path: Path
) -> None:
    pruned = sum(matrix.pruned for matrix in of_global_scope.report.outcome.matrices)
    forged = forge(of_global_scope, tmp_path, prune_one_more, {KEY: 1})
    with pytest.raises(
        SparsityMissedError, match=rf"{pruned + 1} entries are pruned; {pruned} were asked for"
    ):
        forged.verify()


def test_a_group_that_keeps_three_is_refused_though_the_total_is_right(
    of_a_pattern: Export, tmp_path: Path
) -> None:
    def move_one(masks: Masks) -> None:
        groups = masks[KEY].reshape(-1, 4)
        groups[0, first(groups[0], kept=False)] = True
        groups[1, first(groups[1], kept=True)] = False

    forged = forge(of_a_pattern, tmp_path, move_one, {})
    with pytest.raises(SparsityMissedError, match=rf"{KEY} does not keep 2 of every 4"):
        forged.verify()


def test_a_fused_matrix_with_the_right_total_and_other_parts_is_refused(
    fused: Export, tmp_path: Path
) -> None:
    def move_one(masks: Masks) -> None:
        # Stored in × out: the first third of the columns is the query's, the next the key's.
        query, key = masks[FUSED][:, :32], masks[FUSED][:, 32:64]
        query[first(query, kept=True)] = False
        key[first(key, kept=False)] = True

    forged = forge(fused, tmp_path, move_one, {})
    with pytest.raises(SparsityMissedError, match=rf"{FUSED} has 513 pruned entries; 512"):
        forged.verify()


def test_what_is_not_forged_verifies(
    of_global_scope: Export, of_a_pattern: Export, fused: Export, tmp_path: Path
) -> None:
    for number, export in enumerate((of_global_scope, of_a_pattern, fused)):
        export.copy(tmp_path / str(number)).verify()


@pytest.mark.parametrize(("share", "is_refused"), [(0.09, False), (0.11, True)])
def test_a_score_may_differ_by_a_tenth_of_its_interval(
    share: float, is_refused: bool, of_global_scope: Export, tmp_path: Path
) -> None:
    estimate = of_global_scope.report.outcome.evaluation.test.estimate
    assert estimate.low is not None
    assert estimate.high is not None
    told = estimate.value + share * (estimate.high - estimate.low)

    def claim(outcome: dict[str, object]) -> None:
        evaluation = outcome["evaluation"]
        assert isinstance(evaluation, dict)
        evaluation["test"]["metrics"]["accuracy"] = {"value": told, "low": 0.0, "high": 2.0}

    copy = of_global_scope.copy(tmp_path / "copy")
    for name in ("dense", "packed"):
        edit_manifest(copy.out / name, claim)
    if is_refused:
        with pytest.raises(CheckpointCorruptError, match="its trainer reported"):
            copy.verify()
    else:
        copy.verify()
