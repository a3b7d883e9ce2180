"""One trainer a device: the lock, who inherits it and what they see."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from worker.devices import take_free

HOST = psutil.virtual_memory().total


def test_a_taken_device_is_not_given_again(tmp_path: Path) -> None:
    first = take_free(["cpu"], tmp_path)

    assert first is not None
    assert take_free(["cpu"], tmp_path) is None
    os.close(first.lock)


def test_the_next_free_device_is_taken(tmp_path: Path) -> None:
    devices = [take_free(["cuda:0", "cuda:1"], tmp_path) for _ in range(2)]

    assert [device and device.name for device in devices] == ["cuda:0", "cuda:1"]
    for device in devices:
        assert device is not None
        os.close(device.lock)


def test_a_device_is_free_again_only_when_every_holder_has_ended(tmp_path: Path) -> None:
    device = take_free(["cpu"], tmp_path)
    assert device is not None
    trainer = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(device.lock,)
    )
    os.close(device.lock)

    assert take_free(["cpu"], tmp_path) is None
    trainer.communicate(b"\n")
    again = take_free(["cpu"], tmp_path)
    assert again is not None
    os.close(again.lock)


def test_a_trainer_sees_its_own_gpu_alone(tmp_path: Path) -> None:
    gpu = take_free(["cuda:3"], tmp_path)
    cpu = take_free(["cpu"], tmp_path)

    assert gpu is not None
    assert cpu is not None
    assert gpu.environment() == {"CUDA_VISIBLE_DEVICES": "3"}
    assert cpu.environment() == {"CUDA_VISIBLE_DEVICES": ""}
    os.close(gpu.lock)
    os.close(cpu.lock)


@pytest.mark.parametrize(("bound", "least"), [(2**30, 2**30), (2**60, HOST), (None, HOST)])
def test_a_cpu_has_the_memory_it_is_given_of_what_there_is(
    tmp_path: Path, bound: int | None, least: int
) -> None:
    cpu = take_free(["cpu"], tmp_path, cpu_memory_bytes=bound)

    assert cpu is not None
    assert cpu.memory_bytes == least
    os.close(cpu.lock)


def test_a_gpus_trainer_may_map_what_it_wants_of_the_host(tmp_path: Path) -> None:
    gpu = take_free(["cuda:0"], tmp_path, cpu_memory_bytes=2**30)

    assert gpu is not None
    assert gpu.limits() == {"CORE": 0}
    os.close(gpu.lock)
