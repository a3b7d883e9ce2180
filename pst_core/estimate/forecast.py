"""The whole forecast of a compression, from its spec and its sources."""

import torch
from transformers import PreTrainedModel

from pst_core.errors import InvalidDatasetError
from pst_core.estimate import lengths
from pst_core.estimate.lengths import Found
from pst_core.estimate.memory import forecast_memory
from pst_core.estimate.passes import Pass, run
from pst_core.estimate.sizes import forecast_sizes
from pst_core.estimate.skeleton import Counted, count, skeleton
from pst_core.forecast import DeviceKind, Forecast, MemoryForecast, WorkForecast
from pst_core.prepare import Sources
from pst_core.pretrained import read_config
from pst_core.recipes import Hyperparameters
from pst_core.spec import UNPRUNED, CompressionSpec, Method
from pst_core.stages import optimizer_steps, set_dropout
from pst_core.surroundings import device_class, host_memory
from pst_core.tasks import make_task

# Forward, gradient of the input, gradient of the weight: as many operations each.
FORWARDS_OF_A_STEP = 3
# Of products with what is frozen there is no gradient.
FORWARDS_OF_AN_ADAPTER_STEP = 2
# What PST computes of W' and of its score, in the forward and again in the backward, for each
# entry and rank: products of rank r + 2 and their gradients.
PST_PRODUCTS = 10


def forecast(spec: CompressionSpec, sources: Sources, *, unread: str | None = None) -> Forecast:
    """Work out what a compression will take.

    Args:
        spec: What is asked.
        sources: Where its model and its data are.
        unread: Why the data is not to be read; None: it is.

    Raises:
        InvalidDatasetError: With the field or the row at fault.
        UnsupportedModelError: The model cannot be made, pruned or trained for the task.
    """
    found = lengths.unread(spec, unread) if unread else lengths.look(spec, sources)
    if found.data.examples == 0:
        raise InvalidDatasetError("The train split has too little text.", field="dataset")
    config, labels = read_config(sources.model), found.data.labels
    new_head = make_task(spec).has_new_head
    plain = skeleton(config, spec, labels)
    counts = {
        method: count(skeleton(config, spec, labels), spec, method, new_head=new_head)
        for method in {spec.method, "dense"}
    }
    trains = plain
    dropout = spec.resolved_hyperparameters().dropout
    if dropout is not None and spec.method not in UNPRUNED:
        trains = skeleton(config, spec, labels)
        set_dropout(trains, dropout)
    passes = _passes(trains, found)
    dense_passes = passes if trains is plain else _passes(plain, found)
    main = counts[spec.method]
    memory: dict[DeviceKind, MemoryForecast] = {
        kind: forecast_memory(
            spec,
            main,
            counts["dense"],
            passes[kind],
            dense_passes[kind],
            kind,
            answers=_taught(spec, found) * found.data.labels,
        )
        for kind in passes
    }
    return Forecast(
        model_type=config.model_type,
        parameters=main.parameters,
        trainable_parameters=main.trainable,
        matrices=len(main.shapes),
        entries=main.entries,
        kept=main.entries - main.pruned(spec),
        sparsity_overall=main.pruned(spec) / main.parameters,
        data=found.data,
        steps=0 if spec.method == "wanda" else _steps(spec, found, spec.method),
        baseline_steps=_steps(spec, found, "dense") if spec.baseline == "train" else 0,
        memory=memory,
        bytes=forecast_sizes(spec, plain, main, dequantized=sources.model.suffix == ".gguf"),
        work=_work(spec, found, main, passes["cpu"]),
        assumed=found.assumed,
        # What this process may use is less than what a trainer may.
        computed_on=device_class(torch.device("cpu")).model_copy(
            update={"memory_bytes": host_memory()}
        ),
    )


def _passes(model: PreTrainedModel, found: Found) -> dict[DeviceKind, Pass]:
    length = found.data.longest
    return {
        "cpu": run(model, length, fused_dropout=False),
        "gpu": run(model, length, fused_dropout=True),
    }


def _steps(spec: CompressionSpec, found: Found, method: Method) -> int | None:
    if found.data.examples is None:
        return None
    return optimizer_steps(found.data.examples, spec.resolved_hyperparameters(), method)


def _work(spec: CompressionSpec, found: Found, main: Counted, one: Pass) -> WorkForecast:
    # Attention grows faster than the length, and is little at the lengths there are.
    a_token = one.flops / found.data.longest
    batch = a_token * found.data.tokens_per_step
    hyper = spec.resolved_hyperparameters()
    rows = found.data.rows or {}
    scored = sum(rows.get(split, 0) for split in ("validation", "test"))
    stages = 3 if spec.baseline == "train" else 2  # the verification scores as well
    mean = found.data.tokens_per_step / hyper.batch_size
    return WorkForecast(
        step=_step(spec.method, batch, main, hyper),
        baseline_step=FORWARDS_OF_A_STEP * batch if spec.baseline == "train" else 0.0,
        evaluation=(stages * scored + _taught(spec, found)) * mean * a_token,
    )


def _taught(spec: CompressionSpec, found: Found) -> int:
    """How many examples a teacher answers: each once, and each splice; 0 where nobody knows."""
    hyper, rows = spec.resolved_hyperparameters(), found.data.rows or {}
    if not hyper.distillation:
        return 0
    return rows.get("train", 0) * (1 + hyper.splices * hyper.splice_epochs)


def _step(method: Method, batch: float, main: Counted, hyper: Hyperparameters) -> float:
    match method:
        case "wanda":
            return 0.0
        case "lora":
            return FORWARDS_OF_AN_ADAPTER_STEP * batch
        case "pst":
            ranks = hyper.rank + hyper.score_rank + 2
            return FORWARDS_OF_A_STEP * batch + PST_PRODUCTS * ranks * main.entries
    return FORWARDS_OF_A_STEP * batch
