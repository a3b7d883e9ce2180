"""The model card, README.md of a checkpoint folder: the Hub's metadata, then how to use it.

The folder's weights are not read: what is told is the outcome.
"""

from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from pst_core.page import tables
from pst_core.page.markdown import code, percent, table
from pst_core.page.verdict import verdict
from pst_core.references import parse_reference
from pst_core.report import Outcome
from pst_core.spec import Format, Task

CARD = "README.md"
_HUB_TASKS: dict[Task, str] = {
    "text-classification": "text-classification",
    "text-regression": "text-classification",
    "causal-lm": "text-generation",
    "data-to-text": "text-generation",
}
_USES: dict[Format, str] = {
    "dense": """Any Hugging Face client loads this folder:

```python
from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
```

Pruned entries are stored as zeros, so the file is as large as that of a dense model.""",
    "packed": """The weights are packed: a mask and the values it keeps. With pst-service installed:

```python
import pst_core

model, tokenizer = pst_core.load(folder)  # checks every file's hash first
```

After `import pst_core` also `{auto}.from_pretrained(folder)`. For clients without pst-service \
`python -m pst_core unpack FOLDER OUT` writes a plain folder, equal bit for bit.""",
    "adapter": """What training changed, to be put onto the base model (checked by its hash):

```python
from pst_core.adapters import load_adapter

model, tokenizer = load_adapter(folder, base)  # base: the folder of the base model
```

`python -m pst_core rebuild FOLDER BASE OUT` writes the whole model as a plain folder.""",
    "compact": """A smaller dense model: heads and neurons that were wholly pruned are gone. Any \
Hugging Face client loads it, and every runtime is faster by what is gone:

```python
from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
```""",
    "onnx": """`model.onnx` gives `logits` in ONNX Runtime:

```python
import onnxruntime
from transformers import AutoTokenizer

session = onnxruntime.InferenceSession(f"{folder}/model.onnx")
tokenizer = AutoTokenizer.from_pretrained(folder)
logits = session.run(["logits"], dict(tokenizer(texts, padding=True, return_tensors="np")))
```""",
}


def write_card(folder: Path, outcome: Outcome, form: Format) -> None:
    (folder / CARD).write_text(render_card(outcome, form), encoding="utf-8")


def render_card(outcome: Outcome, form: Format) -> str:
    """The card as Markdown with a YAML block before it."""
    auto = _auto_class(outcome.spec.task)
    parts = (
        f"---\n{_metadata(outcome).to_yaml()}\n---",
        f"# {_title(outcome)}",
        verdict(outcome),
        "## How to use it",
        _USES[form].replace("{auto}", auto),
        "## What it is",
        _facts(outcome, form),
        (
            "`pst.json` has the SHA-256 of every file and tensor, the counts of zeros, and what a "
            "fresh process measured when it opened this folder; `python -m pst_core verify FOLDER` "
            "measures it again."
        ),
        (
            "Zeros alone do not make a model faster: runtimes for dense matrices multiply them as "
            "any number."
        ),
        "## Size",
        tables.sizes(outcome),
    )
    return "\n\n".join(parts) + "\n"


def _metadata(outcome: Outcome) -> ModelCardData:
    spec, task = outcome.spec, _HUB_TASKS[outcome.spec.task]
    model, dataset = parse_reference(spec.model), parse_reference(spec.dataset.ref)
    test = outcome.evaluation.test
    scores = [
        EvalResult(
            task_type=task,
            dataset_type=dataset.scheme,
            dataset_name=spec.dataset.ref,
            dataset_split="test",
            metric_type=name,
            metric_value=estimate.value,
        )
        for name, estimate in test.metrics.items()
    ]
    return ModelCardData(
        base_model=model.name if model.scheme == "hub" else None,
        datasets=[dataset.name] if dataset.scheme == "hub" else None,
        library_name="transformers",
        pipeline_tag=task,
        tags=["pst-service", "sparse" if outcome.matrices else "dense", spec.method],
        model_name=_title(outcome),
        eval_results=scores,
    )


def _title(outcome: Outcome) -> str:
    name = outcome.spec.model.rpartition(":")[2].rpartition("/")[2]
    if not outcome.matrices:
        return f"{name}, fine-tuned by {outcome.spec.method}"
    return f"{name}, {outcome.sparsity:.0%} sparse by {outcome.spec.method}"


def _auto_class(task: Task) -> str:
    generates = _HUB_TASKS[task] == "text-generation"
    return "AutoModelForCausalLM" if generates else "AutoModelForSequenceClassification"


def _facts(outcome: Outcome, form: Format) -> str:
    spec = outcome.spec
    rounded = spec.value_dtype if form == "packed" else None
    rows = (
        ("model it was made from", code(spec.model)),
        ("data", code(spec.dataset.ref)),
        ("method", f"{spec.method}, preset {spec.preset}, seed {spec.seed}"),
        ("zeros in the pruned matrices", percent(outcome.sparsity)),
        ("zeros of all parameters", percent(outcome.sparsity_overall)),
        ("format", f"{form}, rounded to {rounded}" if rounded else form),
    )
    return table(("", ""), "ll", rows)
