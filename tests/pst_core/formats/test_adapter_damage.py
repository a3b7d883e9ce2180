"""Nothing broken or forged in an adapter is believed, and nothing large is made of it."""

import contextlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pst_core.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointVersionError,
)
from pst_core.formats import adapter
from tests.pst_core.formats import plain_adapter
from tests.pst_core.formats.adapter_case import MATRIX, Case, make_case, smallest_case


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return make_case(tmp_path)


def test_every_flipped_bit_is_refused(tmp_path: Path) -> None:
    case = smallest_case(tmp_path)
    data = case.file.read_bytes()
    # In place, since to truncate a file costs more than to read it.
    with case.file.open("r+b", buffering=0) as file:
        for position, byte in enumerate(data):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), position)
                with pytest.raises(CheckpointError):
                    case.read()
            os.pwrite(file.fileno(), bytes([byte]), position)
    case.read()


@pytest.mark.parametrize("name", [f"{MATRIX}:U", f"{MATRIX}:V", f"{MATRIX}:mask", "head.bias"])
def test_damage_names_the_tensor(case: Case, name: str) -> None:
    data = bytearray(case.file.read_bytes())
    (length,) = struct.unpack_from("<Q", data)
    begin = json.loads(data[8 : 8 + length])[name]["data_offsets"][0]
    data[8 + length + begin] ^= 1
    case.file.write_bytes(data)
    with pytest.raises(CheckpointCorruptError, match=f"tensor {name} is corrupt"):
        case.read()


def test_a_file_cut_anywhere_is_refused_by_name(case: Case) -> None:
    data = case.file.read_bytes()
    for length in range(0, len(data), 7):
        case.file.write_bytes(data[:length])
        with pytest.raises(CheckpointCorruptError, match=r"adapter\.safetensors cannot be read"):
            case.read()


def test_a_missing_file_is_refused_by_name(case: Case) -> None:
    case.file.unlink()
    assert not adapter.is_adapter(case.adapter_dir)
    with pytest.raises(CheckpointCorruptError, match=r"adapter\.safetensors cannot be read"):
        case.read()


def test_another_safetensors_file_is_no_adapter(case: Case) -> None:
    save_file({"a": torch.zeros(1)}, case.file)
    with pytest.raises(CheckpointCorruptError, match="no contents in its header"):
        case.read()


def test_a_header_that_would_take_much_memory_is_not_parsed(case: Case) -> None:
    with case.file.open("r+b") as file:
        file.write(struct.pack("<Q", (1 << 24) + 1))
        file.truncate(1 << 25)
    with pytest.raises(CheckpointCorruptError, match=r"cannot be read: its header is too long"):
        case.read()


@pytest.mark.parametrize("document", ['{"version":2,"anything":1}', '{"version":99}'])
def test_a_newer_version_is_told_from_damage(case: Case, document: str) -> None:
    plain_adapter.write_file(case.file, document, {})
    with pytest.raises(CheckpointVersionError, match="Upgrade"):
        case.read()


@pytest.mark.parametrize(
    "document",
    ["", "[]", "{}", '{"version":0}', '{"version":1}', "[" * 100_000, '{"version":' + "9" * 9999],
)
def test_malformed_contents_are_refused(case: Case, document: str) -> None:
    plain_adapter.write_file(case.file, document, {})
    with pytest.raises(CheckpointCorruptError):
        case.read()


Forgery = Callable[[dict[str, Any], dict[str, Any]], None]


def replaced(name: str, array: Any) -> Forgery:  # noqa: ANN401 -- any array
    def forge(_: dict[str, Any], arrays: dict[str, Any]) -> None:
        arrays[name] = array

    return forge


def said(*path: str, value: object) -> Forgery:
    def forge(contents: dict[str, Any], _: dict[str, Any]) -> None:
        for key in path[:-1]:
            contents = contents[key]
        contents[path[-1]] = value

    return forge


def dropped(*path: str) -> Forgery:
    def forge(contents: dict[str, Any], _: dict[str, Any]) -> None:
        for key in path[:-1]:
            contents = contents[key]
        del contents[path[-1]]

    return forge


def absent(_: dict[str, Any], arrays: dict[str, Any]) -> None:
    del arrays["head.bias"]


NOTHING = {"dtype": "F32", "shape": [1 << 40], "sha256": "0" * 64}
VAST = np.zeros((0, 1 << 40), np.float32)
FORGERIES: dict[str, tuple[Forgery, str]] = {
    "U too long": (replaced(f"{MATRIX}:U", np.zeros((4, 2), np.float32)), f"{MATRIX} is corrupt"),
    "V too long": (replaced(f"{MATRIX}:V", np.zeros((2, 6), np.float32)), f"{MATRIX} is corrupt"),
    "other ranks": (replaced(f"{MATRIX}:U", np.zeros((3, 1), np.float32)), f"{MATRIX} is corrupt"),
    "U a vector": (replaced(f"{MATRIX}:U", np.zeros(3, np.float32)), f"{MATRIX} is corrupt"),
    "integers": (replaced(f"{MATRIX}:U", np.zeros((3, 2), np.int64)), f"{MATRIX} is corrupt"),
    "no rank": (replaced(f"{MATRIX}:U", VAST), f"{MATRIX} is corrupt"),
    "other values": (replaced(f"{MATRIX}:U", np.zeros((3, 2), np.float32)), "exported"),
    "other mask": (replaced(f"{MATRIX}:mask", np.zeros(2, np.uint8)), "exported"),
    "mask too long": (replaced(f"{MATRIX}:mask", np.zeros(3, np.uint8)), "2 bytes of 15 bits"),
    "mask of floats": (replaced(f"{MATRIX}:mask", np.zeros(2, np.float32)), "2 bytes of 15 bits"),
    "bits behind": (replaced(f"{MATRIX}:mask", np.full(2, 255, np.uint8)), "not zero"),
    "beta infinite": (said("betas", MATRIX, value=float("inf")), "malformed"),
    "beta a text": (said("betas", MATRIX, value="b"), "malformed"),
    "beta another": (said("betas", MATRIX, value=0.2), "exported"),
    "a vector pruned": (said("betas", "net.norm.weight", value=1.0), "contradict"),
    "a stranger pruned": (said("betas", "more", value=1.0), "contradict"),
    "no beta": (dropped("betas", MATRIX), "contradict"),
    "no mask": (dropped("stored", f"{MATRIX}:mask"), "contradict"),
    "an idle tensor": (said("stored", "more", value="0" * 64), "contradict"),
    "an unlisted tensor": (replaced("more", VAST), "other tensors than its header"),
    "an absent tensor": (absent, "other tensors than its header"),
    "a tensor of nothing": (said("tensors", "more", value=NOTHING), "Neither .* has more"),
    "a shape": (said("tensors", MATRIX, "shape", value=[1 << 40, 1 << 40]), "exported"),
    "a shape below zero": (said("tensors", MATRIX, "shape", value=[-1]), "malformed"),
    "an unknown dtype": (said("tensors", MATRIX, "dtype", value="F4"), "malformed"),
    "another dtype": (said("tensors", "head.bias", "dtype", value="F64"), "exported"),
    "a hash": (said("tensors", "net.embed.weight", "sha256", value="0" * 64), "exported"),
    "an unknown field": (said("more", value=1), "malformed"),
}  # fmt: skip


@pytest.mark.parametrize(("forge", "problem"), FORGERIES.values(), ids=FORGERIES)
def test_a_forgery_under_true_hashes_is_refused_with_the_reason(
    case: Case, forge: Forgery, problem: str
) -> None:
    contents, arrays = plain_adapter.read_file(case.file)
    forge(contents, arrays)
    plain_adapter.rewrite(case.file, contents, arrays)
    with pytest.raises(CheckpointCorruptError, match=problem):
        case.read()


@contextlib.contextmanager
def spoiled(case: Case, data: bytes | None = None) -> Iterator[None]:
    """Another file in the case for a while, in which nothing large is made of it."""
    good = case.file.read_bytes()
    case.file.write_bytes(good if data is None else data)
    try:
        with Largest() as largest:
            yield
    finally:
        # Of the file that was read, which a test may have written meanwhile.
        size = case.file.stat().st_size
        case.file.write_bytes(good)
    assert largest.nbytes <= 2 * (size + sum(tensor.nbytes for tensor in case.base.values()))


class Largest(TorchDispatchMode):
    """Remembers the most bytes that one operation of torch returned."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # torch's own
        self.nbytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401 -- torch's own signature
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self.nbytes = max(self.nbytes, out.nbytes)
        return out


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """One for many examples, each of which leaves its file as it was."""
    return make_case(tmp_path_factory.mktemp("shared"))


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_noise_in_the_file_never_crashes_and_never_passes(
    shared: Case, data: st.DataObject
) -> None:
    good = shared.file.read_bytes()
    noisy = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        begin = data.draw(st.integers(0, len(noisy)))
        end = data.draw(st.integers(begin, min(len(noisy), begin + 16)))
        noisy[begin:end] = data.draw(st.binary(max_size=16))
    with spoiled(shared, bytes(noisy)), contextlib.suppress(CheckpointError):
        shared.read()
        assert bytes(noisy) == good


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_noise_in_the_contents_never_crashes_under_true_hashes(
    shared: Case, data: st.DataObject
) -> None:
    contents, arrays = plain_adapter.read_file(shared.file)
    place: Any = contents
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON)
    with spoiled(shared), contextlib.suppress(CheckpointError):
        plain_adapter.write_file(shared.file, json.dumps(contents), arrays)
        shared.read()


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_noise_in_the_tensors_never_crashes_under_true_hashes(
    shared: Case, data: st.DataObject
) -> None:
    contents, arrays = plain_adapter.read_file(shared.file)
    name = data.draw(st.sampled_from(sorted(arrays)))
    shape = data.draw(st.lists(st.integers(0, 9), max_size=3))
    dtype = data.draw(st.sampled_from(sorted(plain_adapter.DTYPES.values())))
    arrays[name] = np.full(shape, data.draw(st.integers(0, 255)), dtype)
    with spoiled(shared), contextlib.suppress(CheckpointError):
        plain_adapter.rewrite(shared.file, contents, arrays)
        shared.read()
