"""``pst models``, ``methods`` and ``estimate``: what is possible, and what it would take."""

import typer

from app.commands.asked import (
    DatasetOption,
    FormatsOption,
    MethodOption,
    ModelOption,
    PresetOption,
    SetOption,
    SparsityOption,
    SpecOption,
    read_spec,
)
from app.commands.exits import Exit
from app.commands.output import duration, emit, facts, say, size, table
from app.commands.session import JsonOption, service
from app.estimates.schemas import KNOWN_FROM, DeviceEstimate, EstimateDetail


def models(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the models that the installation has packaged."""
    with service(context) as client:
        found = client.models()
    if as_json:
        emit(found)
    else:
        table(("MODEL", "FORMAT"), [(model.ref, model.format) for model in found.data])


def methods(context: typer.Context, as_json: JsonOption = False) -> None:
    """List methods and presets."""
    with service(context) as client:
        found = client.methods()
    if as_json:
        emit(found)
        return
    rows = [(each.name, " ".join(each.formats), " ".join(each.patterns)) for each in found.data]
    table(("METHOD", "FORMATS", "PATTERNS"), rows)
    facts([("presets", " ".join(preset.name for preset in found.presets))])


def estimate(
    context: typer.Context,
    model: ModelOption = None,
    dataset: DatasetOption = None,
    sparsity: SparsityOption = None,
    method: MethodOption = None,
    preset: PresetOption = None,
    formats: FormatsOption = None,
    spec: SpecOption = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what a job would take, before it is posted; it takes what `pst jobs create` takes."""
    options = {
        "model": model,
        "dataset": dataset,
        "sparsity": sparsity,
        "method": method,
        "preset": preset,
        "formats": formats,
    }
    body = read_spec(spec, options, changes or ())
    with service(context) as client:
        found = client.estimates.create(body)
    if as_json:
        emit(found)
    else:
        _show(found)
    if found.error:
        raise typer.Exit(Exit.USAGE)


def _show(found: EstimateDetail) -> None:
    if found.error:
        say(f"such a job would fail: {found.error.code}: {found.error.message}")
        facts([("field", found.error.field), ("remedy", found.error.remedy)])
    if found.forecast:
        rows = [_row(device) for device in found.devices]
        table(("DEVICE", "FITS", "PEAK MEMORY", "TIME", "TIME IS KNOWN FROM"), rows)
        sizes = found.forecast.bytes.items()
        known = [f"{name} {size(each.bytes)}" for name, each in sizes if each.bytes is not None]
        facts([("weights", ", ".join(known)), *map(_remedy, found.devices)])


def _row(each: DeviceEstimate) -> tuple[str, str, str, str, str]:
    fits = {True: "yes", False: "no", None: "unknown"}[each.fits]
    total = duration(each.seconds.total) if each.seconds.total is not None else "unknown"
    known_from = KNOWN_FROM[each.seconds.basis]
    return each.device.name, fits, size(each.memory.peak_bytes), total, known_from


def _remedy(each: DeviceEstimate) -> tuple[str, str | None]:
    """What to change in the spec where the job does not fit a device."""
    if each.change is not None:
        changes = [f"{name} {value}" for name, value in each.change.hyperparameters.items()]
        changes += [f"baseline {each.change.baseline}"] if each.change.baseline else []
        peak = size(each.change.peak_memory_bytes)
        return "memory", f"with {', '.join(changes)} it takes {peak}, and fits {each.device.name}"
    if each.fits is False:
        return "memory", f"does not fit {each.device.name}, whatever is changed"
    return "memory", None
