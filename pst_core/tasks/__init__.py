"""What models are fine-tuned for: how rows become examples, what is lost, what is scored.

One module a kind of task; the training loop and the data know none of them by name.
"""

from pst_core.spec import CompressionSpec
from pst_core.tasks.base import Task
from pst_core.tasks.language import CausalLM, DataToText
from pst_core.tasks.sequence import Classification, Regression

TASKS: dict[str, type[Task]] = {
    "text-classification": Classification,
    "text-regression": Regression,
    "causal-lm": CausalLM,
    "data-to-text": DataToText,
}

__all__ = ["TASKS", "Task", "make_task"]


def make_task(spec: CompressionSpec) -> Task:
    return TASKS[spec.task](spec)
