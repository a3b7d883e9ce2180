"""The GLUE tasks (Wang et al. 2018, arXiv 1804.07461) by name: their columns and metrics.

Free of torch. Where the data lies is the dataset reference's business.
"""

from dataclasses import dataclass
from typing import Literal

GlueTask = Literal["text-classification", "text-regression"]


@dataclass(frozen=True, slots=True)
class Glue:
    """A GLUE task: the columns of its texts (that of the label is `label`) and its metrics.

    The first metric decides.
    """

    text: str
    pair: str | None = None
    metrics: tuple[str, ...] = ("accuracy",)
    task: GlueTask = "text-classification"


GLUE = {
    "cola": Glue("sentence", metrics=("matthews", "accuracy")),
    "mnli": Glue("premise", "hypothesis"),
    "mrpc": Glue("sentence1", "sentence2", ("f1", "accuracy")),
    "qnli": Glue("question", "sentence"),
    "qqp": Glue("question1", "question2", ("f1", "accuracy")),
    "rte": Glue("sentence1", "sentence2"),
    "sst2": Glue("sentence"),
    "stsb": Glue("sentence1", "sentence2", ("pearson", "spearman"), "text-regression"),
    "wnli": Glue("sentence1", "sentence2"),
}


def glue_task(reference: str) -> Glue | None:
    """The GLUE task a reference names: ``hub:nyu-mll/glue/sst2@main``, ``file:glue/sst2``."""
    path = reference.partition("@")[0].split(":")[-1].split("/")
    return GLUE.get(path[-1]) if path[-2:-1] == ["glue"] else None
