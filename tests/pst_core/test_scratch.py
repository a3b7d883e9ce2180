"""Scratch memory is reused where it can be, and never where that would be seen."""

import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from pst_core import scratch as module
from pst_core.scratch import scratch


@pytest.fixture(autouse=True)
def no_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_buffers", module._Buffers())


def same_memory(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr()


def test_it_has_the_shape_and_dtype_of_the_tensor_it_is_like() -> None:
    buffer = scratch("a", torch.empty(3, 4, dtype=torch.float64))
    assert (buffer.shape, buffer.dtype) == ((3, 4), torch.float64)


def test_it_has_the_dtype_asked_for() -> None:
    assert scratch("a", torch.empty(3), dtype=torch.bool).dtype == torch.bool


def test_it_is_contiguous_where_what_it_is_like_is_not() -> None:
    assert scratch("a", torch.empty(3, 4).T).is_contiguous()


def test_memory_is_used_again() -> None:
    assert same_memory(scratch("a", torch.empty(3, 4)), scratch("a", torch.empty(4, 3)))


def test_a_smaller_buffer_uses_the_memory_of_a_larger_one() -> None:
    assert same_memory(scratch("a", torch.empty(9)), scratch("a", torch.empty(2)))


def test_a_larger_buffer_takes_the_place_of_a_smaller_one() -> None:
    scratch("a", torch.empty(2))
    assert same_memory(scratch("a", torch.empty(9)), scratch("a", torch.empty(9)))


def test_slots_never_share_memory() -> None:
    assert not same_memory(scratch("a", torch.empty(3)), scratch("b", torch.empty(3)))


def test_dtypes_never_share_memory() -> None:
    like = torch.empty(3)
    assert not same_memory(scratch("a", like), scratch("a", like, dtype=torch.float64))


def test_threads_never_share_memory() -> None:
    like = torch.empty(3)
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(scratch, "a", like).result()
    assert not same_memory(scratch("a", like), elsewhere)


def test_the_smaller_buffer_is_gone_before_the_larger_one_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    like, larger = torch.empty(2), torch.empty(9)
    scratch("a", like)
    smaller = weakref.ref(module._buffers.by_slot["a", like.dtype])
    alive = []
    make = torch.empty

    def watched(entries: int, *, dtype: torch.dtype) -> Tensor:
        alive.append(smaller() is not None)
        return make(entries, dtype=dtype)

    monkeypatch.setattr(torch, "empty", watched)
    scratch("a", larger)
    assert alive == [False]


def test_a_buffer_first_used_in_inference_mode_can_be_written_to_afterwards() -> None:
    like = torch.ones(3)
    with torch.inference_mode():
        scratch("a", like).zero_()
    assert torch.abs(like, out=scratch("a", like)).equal(like)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_buffer_is_a_new_contiguous_tensor() -> None:
    like = torch.empty(3, 4, device="cuda").T
    one, other = scratch("a", like), scratch("a", like)
    assert one.is_contiguous()
    assert not same_memory(one, other)
