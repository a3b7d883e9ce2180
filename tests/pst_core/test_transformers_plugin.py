"""Plain transformers loads packed folders once pst_core is imported, and refuses them before."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

import pst_core
from pst_core.errors import CheckpointCorruptError, CheckpointVersionError
from pst_core.formats import packed

CLASSIFIER = "AutoModelForSequenceClassification"
GENERATOR = "AutoModelForCausalLM"


def bert_config() -> BertConfig:
    return BertConfig(
        hidden_size=32,
        intermediate_size=64,
        max_position_embeddings=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        vocab_size=100,
    )


def bert() -> PreTrainedModel:
    return BertForSequenceClassification(bert_config())


def bert_without_head() -> PreTrainedModel:
    return BertModel(bert_config())


def gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(n_embd=32, n_head=2, n_layer=2, n_positions=32, vocab_size=100)
    )


def llama() -> PreTrainedModel:
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=2,
        num_hidden_layers=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        vocab_size=100,
    )
    return LlamaForCausalLM(config)


def mixtral() -> PreTrainedModel:
    config = MixtralConfig(
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=2,
        num_hidden_layers=2,
        num_key_value_heads=2,
        num_local_experts=4,
        vocab_size=100,
    )
    return MixtralForCausalLM(config)


def t5() -> PreTrainedModel:
    return T5ForConditionalGeneration(
        T5Config(d_ff=64, d_kv=16, d_model=32, num_heads=2, num_layers=2, vocab_size=100)
    )


def save(model: PreTrainedModel, folder: Path) -> tuple[Path, Path]:
    """Prune nine tenths of each matrix in a block; write the dense and the packed folder."""
    dense, sparse = folder / "dense", folder / "packed"
    model.save_pretrained(dense)
    weights = load_file(dense / "model.safetensors")
    rng = np.random.default_rng(0)
    masks = {}
    for name, tensor in weights.items():
        # Blocks are numbered: embeddings, pooler and head are not.
        if tensor.ndim > 1 and any(part.isdigit() for part in name.split(".")):
            masks[name] = rng.random(tensor.shape) < 0.1
            weights[name] = torch.where(torch.from_numpy(masks[name]), tensor, 0.0)
    assert masks
    save_file(weights, dense / "model.safetensors", metadata={"format": "pt"})
    packed.write_packed(dense, masks, sparse)
    return dense, sparse


def load(auto: str, folder: Path, **options: object) -> PreTrainedModel:
    """Load as a client does that knows an auto class of transformers, and nothing of ours."""
    loaded: PreTrainedModel = getattr(transformers, auto).from_pretrained(folder, **options)
    return loaded


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, text=True)


def assert_equal(model: torch.nn.Module, expected: torch.nn.Module) -> None:
    state = model.state_dict()
    assert state.keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        assert state[name].dtype == tensor.dtype, name
        assert torch.equal(state[name], tensor), name


@pytest.mark.parametrize(
    ("make", "auto"),
    [
        (bert, CLASSIFIER),
        (gpt2, GENERATOR),
        (llama, GENERATOR),
        (mixtral, GENERATOR),
        (t5, "AutoModelForSeq2SeqLM"),
    ],
)
@pytest.mark.parametrize("dtype", ["auto", torch.float16])
def test_a_packed_model_equals_the_dense_one(
    tmp_path: Path, make: Callable[[], PreTrainedModel], auto: str, dtype: object
) -> None:
    dense, sparse = save(make(), tmp_path)
    assert_equal(load(auto, sparse, dtype=dtype), load(auto, dense, dtype=dtype))


def test_a_bfloat16_model_stays_one(tmp_path: Path) -> None:
    dense, sparse = save(bert().bfloat16(), tmp_path)
    loaded = load(CLASSIFIER, sparse)
    assert loaded.dtype == torch.bfloat16
    assert_equal(loaded, load(CLASSIFIER, dense))


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    loaded = load(GENERATOR, save(llama(), tmp_path)[1])
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight


def test_a_headless_model_gets_a_head_of_the_asked_dtype(tmp_path: Path) -> None:
    dense, sparse = save(bert_without_head(), tmp_path)
    loaded = load(CLASSIFIER, sparse, dtype=torch.float16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float16}
    assert_equal(loaded.base_model, load("AutoModel", dense, dtype=torch.float16))


def test_a_loaded_model_is_saved_as_the_dense_folder(tmp_path: Path) -> None:
    dense, sparse = save(bert(), tmp_path)
    loaded = load(CLASSIFIER, sparse)
    loaded.save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (dense / name).read_bytes()


def test_a_loaded_mixture_of_experts_is_saved_as_the_dense_folder(tmp_path: Path) -> None:
    dense, sparse = save(mixtral(), tmp_path)
    load(GENERATOR, sparse).save_pretrained(tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    expected = load_file(dense / "model.safetensors")
    assert again.keys() == expected.keys()
    assert all(torch.equal(again[name], expected[name]) for name in expected)


def test_a_loaded_model_has_nothing_left_of_the_packing(tmp_path: Path) -> None:
    loaded = load(CLASSIFIER, save(bert(), tmp_path)[1])
    assert not hasattr(loaded.config, "quantization_config")
    assert not hasattr(loaded, "hf_quantizer")
    assert not loaded.is_quantized


def test_a_loaded_model_trains(tmp_path: Path) -> None:
    loaded = load(CLASSIFIER, save(bert(), tmp_path)[1])
    tokens = torch.arange(8).reshape(2, 4)
    loaded(input_ids=tokens, labels=torch.tensor([0, 1])).loss.backward()
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    query = loaded.get_parameter("bert.encoder.layer.0.attention.self.query.weight")
    assert query.grad is not None
    assert query.grad.abs().sum() > 0


def test_a_head_of_another_size_is_refused_not_random(tmp_path: Path) -> None:
    sparse = save(bert(), tmp_path)[1]
    with pytest.raises((RuntimeError, CheckpointCorruptError)):
        load(CLASSIFIER, sparse, num_labels=5)


def test_a_blob_of_another_shape_is_refused_not_random(tmp_path: Path) -> None:
    sparse = save(bert(), tmp_path)[1]
    with pytest.raises((RuntimeError, CheckpointCorruptError)):
        load(CLASSIFIER, sparse, intermediate_size=48)


def test_a_damaged_blob_is_refused_with_the_tensors_name(tmp_path: Path) -> None:
    sparse = save(bert(), tmp_path)[1]
    weights = load_file(sparse / "model.safetensors")
    name = "bert.encoder.layer.1.output.dense.weight"
    weights[name][40] ^= 1
    save_file(weights, sparse / "model.safetensors", metadata={"format": "pt"})
    code = (
        "import sys, pst_core, transformers;"
        "transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1])"
    )
    result = run(code, sparse)
    assert result.returncode != 0
    assert f"The packed bytes of tensor {name} are corrupt" in result.stderr


def test_a_newer_folder_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    sparse = save(bert(), tmp_path)[1]
    config = json.loads((sparse / "config.json").read_bytes())
    config["quantization_config"]["version"] = 3
    (sparse / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(CheckpointVersionError, match="version 3"):
        load(CLASSIFIER, sparse)


def test_without_pst_core_a_packed_folder_raises(tmp_path: Path) -> None:
    code = (
        "import sys, transformers\n"
        "for auto, folder in zip(sys.argv[1::2], sys.argv[2::2]):\n"
        "    try:\n"
        "        getattr(transformers, auto).from_pretrained(folder)\n"
        "        print('loaded')\n"
        "    except RuntimeError as error:\n"
        "        print('ignore_mismatched_sizes' in str(error))\n"
    )
    folders = [save(make(), tmp_path / make.__name__)[1] for make in (bert, gpt2)]
    result = run(code, CLASSIFIER, folders[0], GENERATOR, folders[1])
    assert result.stdout == "True\nTrue\n", result.stderr


def test_importing_pst_core_loads_neither_torch_nor_transformers() -> None:
    result = run(
        "import sys, pst_core; print({'numpy', 'torch', 'transformers'} & sys.modules.keys())"
    )
    assert result.stdout == "set()\n"


ORDERS = (
    "from transformers import AutoModel; import pst_core",
    "import transformers; import pst_core",
    "import pst_core; import transformers.core_model_loading",
    "import pst_core.transformers_plugin",
)
REGISTERED = "from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING as m; print(*m)"
HOOKED = (
    "import pst_core, inspect, transformers.quantizers.auto as auto;"
    "assert 'def register_quantizer' in inspect.getsource(auto);"
    "assert auto.__loader__ is auto.__spec__.loader;"
    "print(type(auto.__loader__).__name__)"
)
# Most of such a start is torch, which is loaded once for all of them.
FORKS = """
import os, sys, torch.distributed.tensor
assert not {"transformers", "pst_core"} & sys.modules.keys()
for code in sys.argv[1:]:
    if os.fork() == 0:
        exec(code)
        sys.exit()
    os.wait()
"""


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """What each code prints where neither transformers nor pst_core was imported before."""
    codes = [*(f"{imports}; {REGISTERED}" for imports in ORDERS), HOOKED]
    result = run(FORKS, *codes)
    return dict(zip((*ORDERS, HOOKED), result.stdout.splitlines(), strict=True))


@pytest.mark.parametrize("imports", ORDERS)
def test_registration_does_not_depend_on_the_order_of_imports(
    imports: str, printed: dict[str, str]
) -> None:
    assert "pst-packed" in printed[imports].split()


def test_the_hook_leaves_transformers_registry_as_its_own_loader_made_it(
    printed: dict[str, str],
) -> None:
    assert printed[HOOKED] == "SourceFileLoader"


def test_public_names_are_found_where_they_live() -> None:
    assert pst_core.load.__module__ == "pst_core.loading"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = pst_core.lode
