"""The most memory each stage of a compression uses, term by term.

A stage holds the model, what its method adds, a gradient and two moments for each parameter that
trains (AdamW, float32), what the forward keeps of one share of the batch, and what is computed on
the way. The constants below were measured; docs/decisions/0019 has the comparison.
"""

from dataclasses import dataclass

from pst_core.estimate.passes import Pass
from pst_core.estimate.skeleton import Counted
from pst_core.forecast import DeviceKind, MemoryForecast, StageMemory
from pst_core.recipes import Hyperparameters
from pst_core.spec import CompressionSpec, Method

FLOAT = 4
MOMENTS = 2  # AdamW's
# The interpreter with its libraries; a GPU's allocator does not count its context.
PROCESS: dict[DeviceKind, int] = {"cpu": 560_000_000, "gpu": 0}
# What products in half precision leave of the float32 that else is kept: norms, softmax and the
# residual stream stay float32.
HALF_KEPT = 0.75
# What PST's layers hold of their inputs beside what plain ones share; measured, not derived.
KEPT_BY: dict[Method, float] = {"pst": 1.2}
# PST: W', its score and its gradient in float32, and the mask in bytes, of one matrix at a time.
PST_SCRATCH = 3 * FLOAT + 1
# On a GPU also the values and places that the threshold is looked for among: of half at the most.
GPU_SEARCH = (FLOAT + 8) // 2
# The gradient of what is flowing back, and of what it is made from.
GRADIENTS_IN_FLIGHT = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What a training stage is made of."""

    method: Method
    counted: Counted
    hyper: Hyperparameters
    kind: DeviceKind


def forecast_memory(
    spec: CompressionSpec,
    main: Counted,
    dense: Counted,
    one: Pass,
    dense_one: Pass,
    kind: DeviceKind,
    *,
    answers: int,
) -> MemoryForecast:
    """Of all stages of a compression on a kind of device.

    Args:
        spec: What was asked.
        main: Counts of its method.
        dense: Those of the dense yardstick.
        one: One example of the longest length.
        dense_one: The same in the dense yardstick, whose dropout may be another.
        kind: Of device.
        answers: Numbers that a teacher answers with, held while a student learns.
    """
    hyper = spec.resolved_hyperparameters()
    weights = FLOAT * main.parameters
    plain = StageMemory(
        process=PROCESS[kind],
        weights=weights,
        added=0,
        gradients=0,
        optimizer=0,
        activations=_forward_only(one, hyper),
        scratch=0,
    )
    masks = main.entries
    baseline = _training(Stage(method="dense", counted=dense, hyper=hyper, kind=kind), dense_one)
    training = _training(
        Stage(method=spec.method, counted=main, hyper=hyper, kind=kind), one, scope=spec.scope
    )
    return MemoryForecast(
        # On its way in, every weight is in the file's pages and in the model.
        loading=plain.model_copy(update={"scratch": weights, "activations": 0}),
        baseline=baseline if spec.baseline == "train" else None,
        training=training.model_copy(update={"answers": FLOAT * answers}),
        exporting=plain.model_copy(
            update={"added": masks, "scratch": _export_scratch(spec, weights, main)}
        ),
        # What was exported is loaded twice, packed and dense, and compared.
        verifying=plain.model_copy(update={"scratch": weights, "added": masks}),
    )


def _training(stage: Stage, one: Pass, *, scope: str = "matrix") -> StageMemory:
    counted, share = stage.counted, _share(stage.hyper)
    trains = 0 if stage.method == "wanda" else counted.trainable
    return StageMemory(
        process=PROCESS[stage.kind],
        weights=FLOAT * counted.parameters,
        added=FLOAT * counted.added + _masks(stage),
        gradients=FLOAT * trains,
        optimizer=MOMENTS * FLOAT * trains,
        activations=int(
            one.kept_bytes * share * _kept_share(stage.hyper) * KEPT_BY.get(stage.method, 1.0)
        )
        if trains
        else _forward_only(one, stage.hyper),
        scratch=_scratch(stage, one, scope),
    )


def _masks(stage: Stage) -> int:
    """What stays of the masks from forward to backward: a bit an entry, or the masked weight."""
    bits = stage.counted.entries // 8
    if stage.method in ("pst", "lora", "dense"):
        return bits
    return bits + FLOAT * stage.counted.entries


def _scratch(stage: Stage, one: Pass, scope: str) -> int:
    in_flight = int(GRADIENTS_IN_FLIGHT * one.largest_bytes * _share(stage.hyper))
    search = GPU_SEARCH if stage.kind == "gpu" else 0
    matrix = (PST_SCRATCH + search) * stage.counted.largest
    # One threshold over all matrices takes their scores at once, and a copy to search.
    pooled = (2 * FLOAT + search) * stage.counted.entries if scope == "global" else 0
    return in_flight + matrix + pooled


def _export_scratch(spec: CompressionSpec, weights: int, counted: Counted) -> int:
    # Sparse layers become plain ones, whose weights are new, one after the other; what compact
    # and onnx start from is the finished model, loaded once more.
    copies = 1 + any(name in spec.formats for name in ("compact", "onnx"))
    return FLOAT * counted.entries + (copies - 1) * weights + 4 * FLOAT * counted.largest


def _share(hyper: Hyperparameters) -> int:
    """Examples of one forward."""
    return -(-hyper.batch_size // hyper.accumulation)


def _kept_share(hyper: Hyperparameters) -> float:
    return HALF_KEPT if hyper.precision == "bfloat16" else 1.0


def _forward_only(one: Pass, hyper: Hyperparameters) -> int:
    """Without gradients a few of the largest activations are alive at once."""
    return int(4 * one.largest_bytes * _share(hyper))
