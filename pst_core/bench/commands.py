"""``python -m pst_core bench``: what training costs, as tables or as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console

from pst_core.bench.shapes import CONTENDERS, Workload, contenders
from pst_core.errors import PstError

cli = typer.Typer(no_args_is_help=True, help="Measure training beside dense fine-tuning.")

Json = Annotated[bool, typer.Option("--json", help="Every number, and what it ran on.")]
Model = Annotated[str, typer.Option(help="minilm, bert-base or both; with random weights.")]
Tokens = Annotated[str, typer.Option(help="Of a batch; several, with commas.")]
Rounds = Annotated[int, typer.Option(help="Measurements of each method.")]
Methods = Annotated[str, typer.Option(help="With commas; dense is always among them.")]
Dropout = Annotated[float, typer.Option(help="Of hidden states and attention.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]

ALL = ",".join(CONTENDERS)


@cli.command()
def step(
    *,
    as_json: Json = False,
    model: Model = "minilm,bert-base",
    tokens: Tokens = "256,1024,4096",
    rounds: Rounds = 7,
    methods: Methods = ALL,
    dropout: Dropout = 0.1,
    device: Device = "auto",
) -> None:
    """Time whole training steps, the methods in turn, on one thread."""
    # Only now: it takes seconds to load torch.
    from pst_core.bench import report
    from pst_core.bench.step import measure

    device, names = _device(device), contenders(methods)
    documents = []
    for work in _workloads(model, tokens, rounds=rounds, dropout=dropout, device=device):
        timings = measure(work, names)
        documents.append(report.steps(work, timings))
        if not as_json:
            Console().print(report.step_table(work, timings))
    if as_json:
        _print_json(report.machine(device), documents)


@cli.command()
def memory(
    *,
    as_json: Json = False,
    model: Model = "bert-base",
    tokens: Tokens = "256",
    rounds: Rounds = 3,
    methods: Methods = ALL,
    dropout: Dropout = 0.1,
    device: Device = "auto",
) -> None:
    """Measure the memory that training takes above the loaded model, in fresh processes."""
    from pst_core.bench import report
    from pst_core.bench.memory import measure

    device, names = _device(device), contenders(methods)
    documents = []
    for work in _workloads(model, tokens, rounds=rounds, dropout=dropout, device=device):
        peaks = measure(work, names)
        documents.append(report.memory(work, peaks))
        if not as_json:
            Console().print(report.memory_table(work, peaks))
    if as_json:
        _print_json(report.machine(device), documents)


@cli.command()
def pack(
    *,
    as_json: Json = False,
    model: Model = "bert-base",
    sparsity: Annotated[str, typer.Option(help="With commas.")] = "0.5,0.75,0.9,0.95",
    rounds: Rounds = 3,
) -> None:
    """Measure what packing saves, beside the entropy, and what packing and loading cost."""
    from pst_core.bench import report
    from pst_core.bench.pack import measure, table

    documents = []
    for name in model.split(","):
        measured = [each for share in _shares(sparsity) for each in measure(name, share, rounds)]
        documents += [asdict(each) | {"times_smaller": each.times_smaller} for each in measured]
        if not as_json:
            Console().print(table(measured))
    if as_json:
        _print_json(report.machine("cpu"), documents)


@cli.command(hidden=True)
def memory_one(contender: str, workload: str) -> None:
    """What each process of `memory` runs: one method, its workload as JSON."""
    from pst_core.bench.memory import measure_here

    (name,) = (each for each in CONTENDERS if each == contender)
    typer.echo(json.dumps(asdict(measure_here(Workload(**json.loads(workload)), name))))


def _workloads(models: str, tokens: str, **options: Any) -> Iterator[Workload]:  # noqa: ANN401 -- those of Workload
    for model in models.split(","):
        for count in _numbers(tokens):
            yield Workload(model=model, tokens=count, **options)


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise PstError(f"{text} is not a list of numbers.", field="--tokens") from None


def _shares(text: str) -> list[float]:
    try:
        shares = [float(number) for number in text.split(",")]
    except ValueError:
        shares = []
    if not shares or not all(0 < share < 1 for share in shares):
        raise PstError(f"{text} is not a list of numbers in (0, 1).", field="--sparsity")
    return shares


def _device(asked: str) -> str:
    import torch

    there = torch.cuda.is_available()
    if asked not in ("auto", "cpu", "cuda") or (asked == "cuda" and not there):
        raise PstError(f"There is no {asked} here.", field="--device")
    return "cuda" if there and asked != "cpu" else "cpu"


def _print_json(machine: dict[str, object], measured: list[dict[str, object]]) -> None:
    typer.echo(json.dumps({"machine": machine, "measured": measured}, indent=2))
