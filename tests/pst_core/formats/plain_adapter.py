"""Adapter files read and written as docs/formats.md says, with numpy and the standard library."""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
SEAL = "header.sha256"
DTYPES = {"F32": "<f4", "F64": "<f8", "U8": "u1", "I64": "<i8"}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


def sha256(array: Array) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """The contents and the tensors, every hash checked."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header, body = data[8 : 8 + length], data[8 + length :]
    entries = json.loads(header)
    contents = json.loads(entries.pop("__metadata__")["pst"])
    arrays = {}
    for name, entry in entries.items():
        begin, end = entry["data_offsets"]
        expected = contents["stored"].get(name)
        assert name == SEAL or hashlib.sha256(body[begin:end]).hexdigest() == expected
        arrays[name] = np.frombuffer(body[begin:end], DTYPES[entry["dtype"]]).reshape(
            entry["shape"]
        )
    assert arrays.pop(SEAL).tobytes() == hashlib.sha256(header).digest()
    return contents, arrays


def rebuild(path: Path, base: Mapping[str, Array]) -> dict[str, Array]:
    """The dense model's tensors."""
    contents, arrays = read_file(path)
    dense, listing = {}, hashlib.sha256()
    for name in sorted(contents["tensors"]):
        entry = contents["tensors"][name]
        if name in arrays:
            array = arrays[name]
        else:
            array = base[name] if name in base else base[name.split(".", 1)[1]]
            shape = ",".join(map(str, array.shape))
            line = f"{name} {entry['dtype']} [{shape}] {sha256(array)}\n"
            listing.update(line.encode())
            if name in contents["betas"]:
                U, V, bits = (arrays[f"{name}:{part}"] for part in ("U", "V", "mask"))
                array = prune(array, U, V, bits, contents["betas"][name])
        assert sha256(array) == entry["sha256"]
        dense[name] = array
    assert listing.hexdigest() == contents["base"]["sha256"]
    return dense


def prune(weight: Array, U: Array, V: Array, bits: Array, beta: float) -> Array:
    """M ⊙ W', entry by entry."""
    out = np.zeros_like(weight)
    for i, j in np.ndindex(weight.shape):
        position = i * weight.shape[1] + j
        if bits[position // 8] >> (position % 8) & 1:
            total = 0.0
            for k in range(U.shape[1]):
                total += float(U[i, k]) * float(V[k, j])
            out[i, j] = float(weight[i, j]) + beta * total
    return out


def write_file(path: Path, document: str, arrays: Mapping[str, Array]) -> None:
    """A file whose header is truly sealed, whatever the document says."""
    entries: dict[str, Any] = {"__metadata__": {"pst": document}}
    offset = 0
    for name, array in {**arrays, SEAL: np.zeros(32, np.uint8)}.items():
        size = array.nbytes
        entries[name] = {
            "dtype": NAMES[array.dtype],
            "shape": array.shape,
            "data_offsets": [offset, offset + size],
        }
        offset += size
    header = json.dumps(entries).encode()
    body = b"".join(array.tobytes() for array in arrays.values())
    seal = hashlib.sha256(header).digest()
    path.write_bytes(struct.pack("<Q", len(header)) + header + body + seal)


def rewrite(path: Path, contents: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """A file that says these contents, with the true hash of every tensor that it names."""
    stored = {
        name: sha256(arrays[name]) if name in arrays else digest
        for name, digest in contents["stored"].items()
    }
    write_file(path, json.dumps({**contents, "stored": stored}), arrays)
