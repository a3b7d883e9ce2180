"""A report as a folder for people and programs: `report.md` with its plots, and `report.json`.

What was measured is told as it was; measuring is done elsewhere.
"""

from collections.abc import Collection
from pathlib import Path

from pst_core.page import tables
from pst_core.page.markdown import code, codes, percent, table
from pst_core.page.plots import write_plots
from pst_core.page.verdict import verdict
from pst_core.report import Outcome, Report

PAGE, DATA = "report.md", "report.json"

_ALT_TEXTS = {
    "training": "Training loss and sparsity by step",
    "sparsity": "Heat map of the sparsity, matrix types by layers",
    "mask-churn": "Share of mask entries that changed, by step",
}


def write_report(report: Report, folder: Path) -> None:
    """Write `report.md`, `report.json`, and each plot as SVG and PNG.

    Args:
        report: What to tell.
        folder: Made if it is not there; files of these names are overwritten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = report.model_dump_json(indent=2)
    (folder / DATA).write_text(f"{text}\n", encoding="utf-8")
    plots = write_plots(report, folder)
    (folder / PAGE).write_text(render(report, plots), encoding="utf-8")


def render(report: Report, plots: Collection[str] = ()) -> str:
    """The page as Markdown, with those plots beside it."""
    outcome = report.outcome
    sections = {
        "": (verdict(outcome),),
        "What was asked": (_asked(outcome),),
        "Metrics": (tables.metrics(outcome),),
        "Sparsity": (
            tables.sparsity(outcome),
            _image("sparsity", plots),
            tables.matrices(outcome.matrices),
        ),
        "Left dense": (tables.skipped(outcome.skipped),),
        "Size": (tables.sizes(outcome), tables.parameters(outcome)),
        "Speed": (tables.benefit(report),),
        "Training": (
            _image("training", plots) if report.curve else "No step was trained.",
            tables.score_variance(outcome),
            tables.mask_churn(report),
            _image("mask-churn", plots),
        ),
        "Cost": (tables.cost(report),),
        "Hyperparameters": (tables.hyperparameters(outcome),),
        "Data and versions": (_data(outcome), _versions(outcome)),
    }
    parts = [f"# {_title(outcome)}"]
    for heading, blocks in sections.items():
        parts += [f"## {heading}"] if heading else []
        parts += [block for block in blocks if block]
    return "\n\n".join(parts) + "\n"


def _title(outcome: Outcome) -> str:
    verb = "compressed" if outcome.matrices else "fine-tuned"
    return f"{code(outcome.spec.model)} {verb} by {outcome.spec.method}"


def _image(name: str, plots: Collection[str]) -> str:
    if name not in plots:
        return ""
    return f"![{_ALT_TEXTS[name]}]({name}.svg)"


def _asked(outcome: Outcome) -> str:
    spec = outcome.spec
    asked = "nothing pruned" if spec.sparsity is None else percent(spec.sparsity)
    rows = (
        ("model", code(spec.model)),
        ("dataset", code(spec.dataset.ref)),
        ("task", spec.task),
        ("judged by", spec.metric),
        ("method", spec.method),
        ("sparsity", asked),
        ("pattern", spec.pattern),
        ("scope", spec.scope),
        ("layers included", codes(spec.include) if spec.include else "all"),
        ("layers excluded", codes(spec.exclude)),
        ("dense baseline", {"train": "trained"}.get(spec.baseline, spec.baseline)),
        ("preset", spec.preset),
        ("seed", str(spec.seed)),
        ("formats", ", ".join(spec.formats)),
    )
    return table(("option", "value"), "ll", rows)


def _data(outcome: Outcome) -> str:
    data = outcome.data
    rows = [(f"rows, {code(split)}", f"{count:,}") for split, count in data.rows.items()]
    rows += [("labels", codes(data.labels)), ("SHA-256 of the rows", code(data.sha256))]
    return table(("data", "value"), "ll", rows)


def _versions(outcome: Outcome) -> str:
    rows = [(code(name), code(version)) for name, version in outcome.versions.items()]
    return table(("software", "version"), "ll", rows)
