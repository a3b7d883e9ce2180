"""A survey finds exactly the blocks' matrices, and says of everything else why not."""

import pytest
import transformers as hf
from torch import nn
from transformers import PreTrainedModel

from pst_core.architectures import survey
from pst_core.errors import UnsupportedModelError
from tests.pst_core.families import BERT_BLOCK, FAMILIES, SIZES, Family, each_family


def bert() -> PreTrainedModel:
    return FAMILIES["bert"].build()


def bert_block(name: str) -> set[str]:
    return {f"bert.encoder.layer.{block}.{name}" for block in range(2)}


def parts(family: str, name: str) -> tuple[int, ...]:
    return survey(FAMILIES[family].build()).prunable[name].parts


@each_family
def test_the_blocks_matrices_are_found_in_the_models_order(family: Family) -> None:
    model = family.build()
    found = survey(model).prunable
    assert list(found) == family.names()
    assert all(found[name].module is model.get_submodule(name) for name in found)


@each_family
def test_whatever_else_has_a_matrix_is_skipped_with_a_reason(family: Family) -> None:
    model = family.build()
    owners = {
        name.rpartition(".")[0]
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if parameter.ndim > 1
    }
    skipped = survey(model).skipped
    assert skipped.keys() == owners - set(family.names())
    assert all(skipped.values())


def test_embeddings_pooler_and_head_are_skipped() -> None:
    assert survey(bert()).skipped == {
        "bert.embeddings.word_embeddings": "Embedding: not one of the blocks' linear layers",
        "bert.embeddings.position_embeddings": "Embedding: not one of the blocks' linear layers",
        "bert.embeddings.token_type_embeddings": "Embedding: not one of the blocks' linear layers",
        "bert.pooler.dense": "Linear: not one of the blocks' linear layers",
        "classifier": "Linear: not one of the blocks' linear layers",
    }


def test_a_tied_lm_head_is_skipped_beside_its_embedding() -> None:
    assert survey(FAMILIES["gpt2-lm"].build()).skipped == {
        "transformer.wte": "Embedding: not one of the blocks' linear layers",
        "transformer.wpe": "Embedding: not one of the blocks' linear layers",
        "lm_head": "Linear: not one of the blocks' linear layers",
    }


def test_a_model_without_a_head_is_named_from_its_own_root() -> None:
    found = survey(hf.BertModel(hf.BertConfig(**SIZES))).prunable
    assert list(found) == [f"encoder.layer.{n}.{name}" for n in range(2) for name in BERT_BLOCK]


def test_the_cross_attention_of_a_decoder_is_left_alone_as_a_whole() -> None:
    config = hf.BertConfig(**SIZES, is_decoder=True, add_cross_attention=True)
    found = survey(hf.BertLMHeadModel(config))
    assert list(found.prunable) == FAMILIES["bert"].names()
    assert {
        f"bert.encoder.layer.0.crossattention.{name}"
        for name in ("self.query", "self.key", "self.value", "output.dense")
    } < found.skipped.keys()


def test_gpt2s_fused_attention_has_three_equal_parts() -> None:
    assert parts("gpt2", "h.1.attn.c_attn") == (32, 32, 32)


def test_phi3s_fused_attention_is_parted_by_heads_and_shared_heads() -> None:
    # Four heads of 8 for the queries; two of 8 for keys and for values.
    assert parts("phi3", "model.layers.1.self_attn.qkv_proj") == (32, 16, 16)


def test_phi3s_fused_gate_and_up_are_two_parts() -> None:
    assert parts("phi3", "model.layers.1.mlp.gate_up_proj") == (48, 48)


def test_modernberts_fused_attention_has_three_parts() -> None:
    assert parts("modernbert", "model.layers.1.attn.Wqkv") == (32, 32, 32)


def test_what_is_fused_head_by_head_is_one_part() -> None:
    assert parts("gpt-neox", "gpt_neox.layers.1.attention.query_key_value") == (96,)


@pytest.mark.parametrize(
    ("family", "name", "rows"),
    [
        ("bert", "bert.encoder.layer.0.intermediate.dense", 48),
        ("gpt2", "h.0.mlp.c_fc", 128),
        ("llama", "model.layers.0.self_attn.k_proj", 16),
    ],
)
def test_a_matrix_of_its_own_is_one_part_of_all_its_rows(family: str, name: str, rows: int) -> None:
    assert parts(family, name) == (rows,)


def test_with_include_only_what_matches_is_pruned() -> None:
    found = survey(bert(), include=["*.intermediate.*", "*.key"])
    assert set(found.prunable) == bert_block("intermediate.dense") | bert_block(
        "attention.self.key"
    )
    assert found.skipped["bert.encoder.layer.0.output.dense"] == "no pattern of include matches"


def test_what_exclude_matches_is_left_alone() -> None:
    found = survey(bert(), exclude=["bert.encoder.layer.1.*"])
    assert set(found.prunable) == {n for n in FAMILIES["bert"].names() if ".layer.0." in n}
    assert found.skipped["bert.encoder.layer.1.output.dense"] == "a pattern of exclude matches"


def test_exclude_wins_over_include() -> None:
    found = survey(bert(), include=["*.key", "*.query"], exclude=["*.key"])
    assert set(found.prunable) == bert_block("attention.self.query")


def test_include_reaches_nothing_outside_the_blocks() -> None:
    found = survey(bert(), include=["*dense*"])
    assert set(found.prunable) <= set(FAMILIES["bert"].names())


@pytest.mark.parametrize("field", ["include", "exclude"])
def test_a_pattern_that_matches_nothing_is_refused_with_an_example(field: str) -> None:
    with pytest.raises(UnsupportedModelError, match=r"'classifier' matches no") as caught:
        survey(bert(), **{field: ["*.key", "classifier"]})
    assert caught.value.field == field
    assert caught.value.remedy == "They are called like bert.encoder.layer.0.attention.self.query."


def test_a_block_whose_weight_is_tied_to_anothers_is_left_alone() -> None:
    model = bert()
    tied = bert_block("output.dense")
    first, second = (model.get_submodule(name) for name in sorted(tied))
    second.weight = first.weight
    found = survey(model)
    assert set(found.prunable) == set(FAMILIES["bert"].names()) - tied
    assert {found.skipped[name] for name in tied} == {"its weight is tied to another layer's"}


@pytest.mark.parametrize(
    ("patterns", "field"),
    [
        ({"include": ["*.key"], "exclude": ["*.key"]}, "include"),
        ({"exclude": ["*.encoder.*"]}, "exclude"),
    ],
)
def test_patterns_that_leave_nothing_are_the_field_to_blame(
    patterns: dict[str, list[str]], field: str
) -> None:
    with pytest.raises(UnsupportedModelError, match="that may be pruned") as caught:
        survey(bert(), **patterns)
    assert caught.value.field == field


def test_a_model_with_nothing_to_prune_is_refused_with_what_works() -> None:
    without_blocks = hf.MPNetModel(hf.MPNetConfig(**SIZES | {"num_hidden_layers": 0}))
    with pytest.raises(UnsupportedModelError, match=r"MPNetModel .* Use a transformer") as caught:
        survey(without_blocks, exclude=["*.key"])
    assert caught.value.field == "model"


def test_a_known_family_that_lacks_a_matrix_is_refused_by_its_name() -> None:
    model = bert()
    for name in bert_block("intermediate.dense"):
        model.set_submodule(name, nn.Identity())
    match = r"encoder\.layer\.\*\.intermediate\.dense, as a bert should"
    with pytest.raises(UnsupportedModelError, match=match):
        survey(model)
