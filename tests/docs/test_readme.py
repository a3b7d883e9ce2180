"""README.md: what it has one type against a running service does what it says."""

import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from app.projects.service import NewKey
from pst_core.formats.packed import write_packed
from tests.app.served import Served
from tests.docs.guide import Shell
from tests.docs.pages import ROOT, blocks
from tests.docs.world import World
from tests.jobs import claim, submit
from tests.pst_core import tiny

ADDRESS = "localhost:8000"
PRUNED = "bert.encoder.layer.0.output.dense.weight"


@pytest.fixture
def checkpoints(tmp_path: Path) -> dict[str, Path]:
    """A tiny classifier with a pruned matrix, in two formats."""
    dense, packed = tmp_path / "dense", tmp_path / "packed"
    tiny.classifier().save_pretrained(dense)
    tiny.save_tokenizer(dense, ends=True, segments=True)
    weights = load_file(dense / "model.safetensors")
    mask = weights[PRUNED].abs() > weights[PRUNED].abs().median()
    weights[PRUNED] = torch.where(mask, weights[PRUNED], 0.0)
    save_file(weights, dense / "model.safetensors", metadata={"format": "pt"})
    write_packed(dense, {PRUNED: mask.numpy()}, packed)
    return {"packed": packed, "dense": dense}


def test_its_commands_post_show_download_and_load(
    served: Served, admin: NewKey, world: World, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    submit(world.sessions, admin.project_id)
    job_id = world.publish(claim(world.sessions), checkpoints)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    path = f"{sys.prefix}/bin:{os.environ['PATH']}"
    variables = {"PATH": path, "HOME": str(tmp_path), "PST_API_KEY": admin.key}
    shell = Shell(tmp_path, variables, patience=300)
    typed = [block.text for block in blocks(ROOT / "README.md") if ADDRESS in block.text]
    assert len(typed) == 2

    here = {"http://" + ADDRESS: served.url, ADDRESS: served.url, "job_…": job_id}

    answers = [shell.run(as_filled_in(text, here)) for text in typed]

    assert [answer.status for answer in answers[0]] == [202, 200, 200]


def as_filled_in(text: str, values: dict[str, str]) -> str:
    for shown, value in values.items():
        text = text.replace(shown, value)
    return text
