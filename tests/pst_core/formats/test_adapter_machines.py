"""An adapter made on one machine gives the same bits on another, as far as one machine can tell."""

import os
import subprocess
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.pst_core.exports import sha256s

ROOT = Path(__file__).parents[3]
# How a CPU without vectors and one with them compute, by torch's and by MKL's kernels.
PLAIN = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE", "OMP_NUM_THREADS": "1"}
VECTORS = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "2"}
START = """
import sys
from pathlib import Path
import numpy as np
import torch
from safetensors.torch import load_file
from pst_core.factors import Factors
from pst_core.formats import adapter
from pst_core.formats.adapter_tensors import Update
from tests.pst_core.formats.adapter_case import write_case
folder = Path(sys.argv[1])
given = load_file(folder / "given.safetensors")
base = {"w": given["w"]}
"""
MAKE = """
update = Update(Factors(given["U"], given["V"], 0.0137), given["mask"].numpy())
write_case(folder, base, {"w": update}, {"w": update.apply(base["w"])})
"""
REBUILD = """
adapter.rebuild(folder / "adapter", base, folder / "again")
"""


def run(code: str, folder: Path, setting: dict[str, str]) -> None:
    command = [sys.executable, "-c", START + code, str(folder)]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | setting)


def test_other_vectors_threads_and_blas_give_the_same_bits(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    given = {
        "w": torch.randn(400, 700, generator=generator),
        "U": torch.randn(400, 16, generator=generator),
        "V": torch.randn(16, 700, generator=generator),
        "mask": torch.rand(400, 700, generator=generator) < 0.1,
    }
    save_file(given, tmp_path / "given.safetensors")
    run(MAKE, tmp_path, PLAIN)
    run(REBUILD, tmp_path, VECTORS)
    found, expected = sha256s(tmp_path / "again"), sha256s(tmp_path / "dense")
    assert found["model.safetensors"] == expected["model.safetensors"]
