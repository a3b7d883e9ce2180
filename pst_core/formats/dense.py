"""The dense format: a plain Hugging Face folder, zeros and all, that loads anywhere."""

import shutil
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOKENIZER_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
SHARD_SIZE = "5GB"  # the hub's clients refuse single files over 50 GB


def write_dense(
    model: PreTrainedModel, base: Path, tokenizer: PreTrainedTokenizerBase, out_dir: Path
) -> None:
    """Write a model and the tokenizer of the model it was made from.

    Args:
        model: Plain linears only.
        base: The base model's folder; its tokenizer files are copied byte for byte, since one
            rewritten by a newer library can name classes that an older one does not know.
        tokenizer: Saved where the base is a GGUF file, which has no such files.
        out_dir: Made here.
    """
    out_dir.mkdir(parents=True)
    model.save_pretrained(out_dir, max_shard_size=SHARD_SIZE)
    if base.is_file():
        tokenizer.save_pretrained(out_dir)
        return
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, out_dir / name)
