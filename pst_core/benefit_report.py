"""What a compression is worth, as data: times by runtime, sizes, and a verdict. Free of torch.

Measured by benefit.py; how small it could be is worked out by formats/limits.py.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Annotated, Literal, get_args

from pydantic import Field

from pst_core.fields import Count, Strict

Runtime = Literal["pytorch", "pytorch-csr", "onnxruntime"]
Variant = Literal["dense", "sparse", "compact"]
Positive = Annotated[float, Field(gt=0)]

GAIN = 1.05  # times as fast; less may be chance


class Latency(Strict):
    """One forward pass of one batch."""

    runtime: Runtime
    variant: Variant
    batch_size: Count
    seconds: Positive
    """Median."""
    runs: Count
    speedup: Positive
    """PyTorch's time for the dense model, divided by this one."""
    speedup_in_runtime: Positive
    """The same with the runtime's own time for the dense model; CSR's is PyTorch's."""


class Verdict(Strict):
    """Whether the compression makes the model faster in a runtime than dense is there."""

    runtime: Runtime
    gain: bool
    text: str


class Limit(Strict):
    """Bytes below which no coding of independent symbols gets.

    A mask of n entries with a share d kept takes n·H(d) bits, H being the binary entropy, and each
    byte of the values as many as the entropy of its plane has: the first bytes of all values are
    one plane, the second ones the next (Shannon 1948). Codings that use what neighbours have to do
    with each other may get below it.
    """

    masks: Count
    values: Count
    """Of what the masks keep."""
    others: Count
    """Of the tensors that are not pruned."""

    @property
    def total(self) -> int:
        return self.masks + self.values + self.others


class Sizes(Strict):
    """Bytes of the weights; null: there is no such folder."""

    dense: Count
    packed: Count | None
    compact: Count | None
    limit: Limit


class Benefit(Strict):
    """Differs from one run to the next, but for the sizes."""

    device: str
    threads: Count
    tokens: dict[int, Count]
    """Of a batch with its padding, by batch size; the median."""
    latencies: tuple[Latency, ...]
    verdicts: tuple[Verdict, ...]
    sizes: Sizes


def judge(latencies: Sequence[Latency], unmeasured: Mapping[Runtime, str]) -> tuple[Verdict, ...]:
    """One verdict a runtime.

    Args:
        latencies: Of each runtime those of its dense model too, but for CSR.
        unmeasured: Why a runtime has none.
    """
    return tuple(
        _judge(runtime, latencies, unmeasured.get(runtime))
        for runtime in get_args(Runtime)
        if runtime in unmeasured or any(each.runtime == runtime for each in latencies)
    )


def _judge(runtime: Runtime, latencies: Sequence[Latency], why_not: str | None) -> Verdict:
    if why_not is not None:
        return Verdict(runtime=runtime, gain=False, text=f"Not measured: {why_not}")
    smaller = [each for each in latencies if each.runtime == runtime and each.variant != "dense"]
    if not smaller:
        text = "No gain: it computes zeros like other numbers."
        return Verdict(runtime=runtime, gain=False, text=text)
    parts = [
        f"{variant}: {', '.join(map(_say, group))}"
        for variant, group in groupby(
            sorted(smaller, key=lambda each: each.variant), key=lambda each: each.variant
        )
    ]
    gain = any(each.speedup_in_runtime >= GAIN for each in smaller)
    return Verdict(runtime=runtime, gain=gain, text=f"{'; '.join(parts)}.".capitalize())


def _say(latency: Latency) -> str:
    times, where = f"{latency.speedup_in_runtime:.2f}×", f"at batch {latency.batch_size}"
    if latency.speedup_in_runtime >= GAIN:
        return f"{times} as fast {where}"
    return f"no gain {where} ({times})"
