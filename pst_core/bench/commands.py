"""``python -m pst_core bench``: what training costs, as tables or as JSON."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Generic, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from pst_core.bench.shapes import CONTENDERS, LENGTH, Contender, Workload, contenders
from pst_core.errors import PstError

cli = typer.Typer(no_args_is_help=True, help="Measure what training costs.")

Json = Annotated[bool, typer.Option("--json", help="Every number, and what it ran on.")]
Model = Annotated[str, typer.Option(help="minilm, bert-base or both; with random weights.")]
Tokens = Annotated[str, typer.Option(help="Of a batch; several, with commas.")]
Rounds = Annotated[int, typer.Option(help="Measurements of each.")]
Methods = Annotated[str, typer.Option(help="With commas; dense is always among them.")]
Dropout = Annotated[float, typer.Option(help="Of hidden states and attention.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Data = Annotated[
    str | None, typer.Option(help="A dataset to classify. Default: sentences of docstrings.")
]

ALL = ",".join(CONTENDERS)
Measured = TypeVar("Measured")


@dataclass(frozen=True, slots=True)
class Bench(Generic[Measured]):
    """How something is measured, and how it is told as JSON and as a table."""

    measure: Callable[[Workload], Measured]
    document: Callable[[Workload, Measured], dict[str, object]]
    table: Callable[[Workload, Measured], Table]


Comparison = Callable[[Sequence[Contender]], Bench[Any]]


def step(names: Sequence[Contender]) -> Bench[Any]:
    """Time whole training steps, the methods in turn, on one thread."""
    # Only now: it takes seconds to load torch.
    from pst_core.bench import report
    from pst_core.bench.step import measure

    return Bench(lambda work: measure(work, names), report.steps, report.step_table)


def memory(names: Sequence[Contender]) -> Bench[Any]:
    """Measure the memory that training takes above the loaded model, in fresh processes."""
    from pst_core.bench import report
    from pst_core.bench.memory import measure

    return Bench(lambda work: measure(work, names), report.memory, report.memory_table)


def _add(comparison: Comparison, name: str, *, models: str, sizes: str, times: int) -> None:
    @cli.command(name, help=comparison.__doc__)
    def compare(
        *,
        as_json: Json = False,
        model: Model = models,
        tokens: Tokens = sizes,
        rounds: Rounds = times,
        methods: Methods = ALL,
        dropout: Dropout = 0.1,
        device: Device = "auto",
    ) -> None:
        options = {"rounds": rounds, "dropout": dropout, "device": _device(device)}
        workloads = _workloads(model, _numbers(tokens), options)
        _run(comparison(contenders(methods)), workloads, as_json=as_json)


_add(step, "step", models="minilm,bert-base", sizes="256,1024,4096", times=7)
_add(memory, "memory", models="bert-base", sizes="256", times=3)


@cli.command()
def padding(
    *,
    as_json: Json = False,
    model: Model = "minilm",
    data: Data = None,
    rounds: Rounds = 25,
    dropout: Dropout = 0.1,
    device: Device = "auto",
) -> None:
    """Time PST steps on batches of texts of like length, beside dynamic padding."""
    from pst_core.bench import report
    from pst_core.bench.padding import BATCH_SIZE, measure
    from pst_core.bench.texts import token_counts

    options = {"rounds": rounds, "dropout": dropout, "device": _device(device)}
    workloads = _workloads(model, [BATCH_SIZE * LENGTH], options)
    counts = token_counts(data)
    bench = Bench(lambda work: measure(work, counts), report.padding, report.padding_table)
    _run(bench, workloads, as_json=as_json)


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
        document = {"machine": report.machine("cpu"), "measured": documents}
        typer.echo(json.dumps(document, indent=2))


@cli.command(hidden=True)
def memory_one(contender: str, workload: str) -> None:
    """What each process of `memory` runs: one method, its workload as JSON."""
    from pst_core.bench.memory import measure_here

    (name,) = (each for each in CONTENDERS if each == contender)
    typer.echo(json.dumps(asdict(measure_here(Workload(**json.loads(workload)), name))))


def _run(bench: Bench[Any], workloads: Sequence[Workload], *, as_json: bool) -> None:
    from pst_core.bench.report import machine

    documents = []
    for work in workloads:
        measured = bench.measure(work)
        documents.append(bench.document(work, measured))
        if not as_json:
            Console().print(bench.table(work, measured))
    if as_json:
        document = {"machine": machine(workloads[0].device), "measured": documents}
        typer.echo(json.dumps(document, indent=2))


def _workloads(models: str, token_counts: Sequence[int], options: dict[str, Any]) -> list[Workload]:
    return [
        Workload(model=model, tokens=count, **options)
        for model in models.split(",")
        for count in token_counts
    ]


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
