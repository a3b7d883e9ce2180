"""Every method, task and way to choose matrices, from the spec to a checkpoint that verifies."""

import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

import pst_core
from pst_core.formats.manifest import read_manifest
from pst_core.prepare import Sources
from pst_core.references import DataSource
from pst_core.spec import UNPRUNED
from tests.pst_core import tiny
from tests.pst_core.exports import WEIGHTS, Export, masks_of, run

SPARSITY = 0.3  # of 1,024 entries, 307.2: one too many or too few would show
HYPER = {"epochs": 1, "batch_size": 16, "rank": 2, "score_rank": 2, "max_length": 32, "beams": 2}
# What each case changes of the spec, by the model that it starts from.
BERT: dict[str, dict[str, Any]] = {
    "pst paper": {},
    "pst paper-released": {"preset": "paper-released"},
    "pst default": {"preset": "default", "baseline": "train"},
    "magnitude": {"method": "magnitude"},
    "movement": {"method": "movement"},
    "random": {"method": "random"},
    "lora": {"method": "lora", "sparsity": None},
    "dense": {"method": "dense", "sparsity": None},
    "pst global": {"scope": "global"},
    "magnitude global": {"method": "magnitude", "scope": "global"},
    "pst 2:4": {"pattern": "2:4", "sparsity": None},
    "magnitude 4:8": {"method": "magnitude", "pattern": "4:8", "sparsity": None},
    "include": {"include": ["*.intermediate.*"]},
    "exclude": {"exclude": ["*.attention.*"]},
    "regression": {"task": "text-regression", "preset": "default", "baseline": "train"},
}
GPT2: dict[str, dict[str, Any]] = {
    "classifier": {},
    "causal-lm pst": {"task": "causal-lm"},
    "causal-lm pst default": {"task": "causal-lm", "preset": "default", "baseline": "train"},
    "causal-lm magnitude": {"task": "causal-lm", "method": "magnitude"},
    "causal-lm global": {"task": "causal-lm", "scope": "global"},
    "causal-lm wanda": {"task": "causal-lm", "method": "wanda"},
    "causal-lm wanda 2:4": {
        "task": "causal-lm",
        "method": "wanda",
        "pattern": "2:4",
        "sparsity": None,
    },
    "causal-lm lora": {"task": "causal-lm", "method": "lora", "sparsity": None},
    "data-to-text": {"task": "data-to-text"},
    "data-to-text perplexity": {"task": "data-to-text", "metric": "perplexity"},
}
CASES = {f"bert {name}": case for name, case in BERT.items()} | {
    f"gpt2 {name}": case for name, case in GPT2.items()
}


def table(task: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The columns and rows of a learnable dataset for a task."""
    texts = tiny.toy_rows(96)
    match task:
        case "text-regression":
            rows = [
                (text, str(sum(word in tiny.GOOD for word in text.split()))) for text, _ in texts
            ]
            return ("text", "label"), [*rows]
        case "causal-lm":
            return ("text",), [(text,) for text, _ in texts]
        case "data-to-text":
            draw = random.Random(0)
            words = [(draw.choice(tiny.FILLER), draw.choice(tiny.GOOD)) for _ in texts]
            return ("prompt", "completion"), [(f"{a} {b}", f"the {a} was {b}") for a, b in words]
    return ("text", "label"), [*texts]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    tiny.save_model(folder / "bert")
    tiny.save_language_model(folder / "gpt2")
    return folder


def compressed(case: str, pretrained: Path, folder: Path) -> Export:
    """What a case gives, and its verification."""
    changes = {"hyperparameters": HYPER, "sparsity": SPARSITY, **CASES[case]}
    columns, rows = table(changes.get("task", "text-classification"))
    data = tiny.save_csv(folder / "data.csv", rows, columns=columns)
    splits = {"train": 64, "validation": 12, "test": 20}
    changes["dataset"] = {"ref": "file:data.csv", "splits": splits}
    sources = Sources(model=pretrained / case.partition(" ")[0], dataset=DataSource(path=data))
    export = run(folder, folder / "out", sources=sources, changes=changes)
    export.verify()
    return export


@pytest.fixture(scope="module")
def exports(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Export]:
    """What a case gives, worked out once."""
    return cache(lambda case: compressed(case, pretrained, tmp_path_factory.mktemp("case")))


@pytest.fixture(scope="module", params=CASES)
def export(request: pytest.FixtureRequest, exports: Callable[[str], Export]) -> Export:
    return exports(request.param)


def logits(model: PreTrainedModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(4, len(tiny.VOCABULARY), (3, 9), generator=generator)
    found: torch.Tensor = model.eval()(input_ids=ids).logits.detach()
    return found


def test_every_folder_is_attested(export: Export) -> None:
    names = {"dense"} if export.spec.method in UNPRUNED else {"dense", "packed"}
    assert {folder.name for folder in export.out.iterdir()} == names
    for name in names:
        attestation = read_manifest(export.out / name).attestation
        assert attestation is not None
        pruned = sum(matrix.pruned for matrix in export.report.outcome.matrices)
        assert attestation.zeros == pruned


def test_plain_transformers_load_the_dense_export_as_we_load_the_packed_one(
    export: Export,
) -> None:
    is_generative = export.spec.task in {"causal-lm", "data-to-text"}
    auto_class = AutoModelForCausalLM if is_generative else AutoModelForSequenceClassification
    ours, _ = pst_core.load(export.out / ("packed" if export.report.outcome.matrices else "dense"))
    theirs = auto_class.from_pretrained(export.out / "dense")
    weights = ours.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in theirs.state_dict().items())
    # Equal weights at other addresses may give other last bits.
    torch.testing.assert_close(logits(theirs), logits(ours), rtol=1e-5, atol=1e-6)


def test_exactly_the_integer_part_of_what_was_asked_is_pruned(export: Export) -> None:
    weights = load_file(export.out / "dense" / WEIGHTS)
    matrices = export.report.outcome.matrices
    asked = export.spec.sparsity
    if asked is None:
        assert matrices == ()
        return
    sizes = {matrix.name: weights[matrix.name].numel() for matrix in matrices}
    zeros = {name: int((weights[name] == 0).sum()) for name in sizes}
    if export.spec.scope == "global":
        assert sum(zeros.values()) == int(asked * sum(sizes.values()))
        return
    parts = {matrix.name: len(matrix.parts) for matrix in matrices}
    expected = {name: parts[name] * int(asked * (sizes[name] // parts[name])) for name in sizes}
    assert zeros == expected


def test_each_group_of_a_pattern_keeps_as_many_as_it_says(export: Export) -> None:
    if export.spec.pattern == "unstructured":
        return
    n, m = map(int, export.spec.pattern.split(":"))
    masks = masks_of(export)
    for matrix in export.report.outcome.matrices:
        mask = masks[matrix.name]
        mask_OI = mask.T if matrix.output_axis else mask
        assert (mask_OI.reshape(-1, m).sum(1) == n).all()


def test_the_three_matrices_of_a_fused_one_are_pruned_alike(
    exports: Callable[[str], Export],
) -> None:
    export = exports("gpt2 causal-lm pst")
    masks = masks_of(export)
    fused = [matrix for matrix in export.report.outcome.matrices if "c_attn" in matrix.name]
    assert len(fused) == 2
    for matrix in fused:
        assert (matrix.shape, matrix.parts, matrix.output_axis) == ((32, 96), (32, 32, 32), 1)
        for part in np.split(masks[matrix.name], 3, axis=1):
            assert part.size - int(part.sum()) == int(SPARSITY * 32 * 32)


@pytest.mark.parametrize(
    ("case", "kept"),
    [("bert include", "intermediate"), ("bert exclude", "dense")],
)
def test_include_and_exclude_choose_the_matrices(
    case: str, kept: str, exports: Callable[[str], Export]
) -> None:
    outcome = exports(case).report.outcome
    names = {matrix.name for matrix in outcome.matrices}
    assert names
    assert all(kept in name and "attention" not in name for name in names)
    assert any(name.endswith("attention.self.query") for name in outcome.skipped)


@pytest.mark.parametrize("case", ["bert pst default", "gpt2 causal-lm wanda"])
def test_the_same_job_twice_gives_the_same_bytes(
    case: str, exports: Callable[[str], Export], pretrained: Path, tmp_path: Path
) -> None:
    one, other = exports(case).out, compressed(case, pretrained, tmp_path).out
    for name in ("dense", "packed"):
        assert (one / name / WEIGHTS).read_bytes() == (other / name / WEIGHTS).read_bytes()


def test_wanda_trains_nothing(pretrained: Path, exports: Callable[[str], Export]) -> None:
    export = exports("gpt2 causal-lm wanda")
    assert export.report.cost.steps == 0
    assert export.report.outcome.trainable_parameters == 0
    before = load_file(pretrained / "gpt2" / WEIGHTS)
    after, masks = load_file(export.out / "dense" / WEIGHTS), masks_of(export)
    for name, weight in before.items():
        kept = torch.from_numpy(masks[name]) if name in masks else torch.ones(weight.shape).bool()
        assert torch.equal(after[name], torch.where(kept, weight, 0.0))


def test_a_regression_learns_how_good_a_text_is(pretrained: Path, tmp_path: Path) -> None:
    data = tiny.save_csv(tmp_path / "data.csv", table("text-regression")[1])
    rates = dict.fromkeys(("learning_rate", "head_learning_rate"), 5e-3)
    export = run(
        tmp_path,
        tmp_path / "out",
        sources=Sources(model=pretrained / "bert", dataset=DataSource(path=data)),
        changes={
            "task": "text-regression",
            "dataset": {
                "ref": "file:data.csv",
                "splits": {"train": 64, "validation": 8, "test": 24},
            },
            "hyperparameters": {**HYPER, **rates, "epochs": 15},
        },
    )
    test = export.report.outcome.evaluation.test
    assert test.estimate.low is not None
    assert test.constant is not None
    assert test.estimate.low > test.constant
