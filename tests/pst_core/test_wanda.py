"""Calibration scores and prunes as the paper's loop does, run plainly in the test."""

from collections.abc import Callable, Sequence

import pytest
import torch
import transformers as hf
from torch import Tensor, nn
from transformers import PreTrainedModel

from pst_core.batches import Batch
from pst_core.convert import Converted, Pruning, convert
from pst_core.errors import UnsupportedModelError
from pst_core.masks import NOfM
from pst_core.recipes import Hyperparameters
from pst_core.wanda import calibrate
from tests.pst_core.families import FAMILIES, SIZES, T5_SIZES, Family

PADDED = ("bert", "gpt2-lm", "llama", "distilbert", "gemma3", "phi3", "mpnet", "opt", "t5-encoder")
each_family = pytest.mark.parametrize("family", [FAMILIES[name] for name in PADDED], ids=PADDED)
# Of rows of 32 and 48 inputs no whole number, and so for some rows one entry more.
SPARSITY = 0.55


def batches(*, padding: int = 0) -> list[Batch]:
    """Two batches of three texts, each shorter than the last, padded with any token."""
    generator = torch.Generator().manual_seed(7)
    drawn = []
    for length in (9, 6):
        input_ids = torch.randint(4, 40, (3, length), generator=generator)
        mask = (torch.arange(length) < length - 2 * torch.arange(3)[:, None]).long()
        drawn.append(
            Batch(
                input_ids=torch.where(mask.bool(), input_ids, padding),
                attention_mask=mask,
                token_type_ids=None,
                targets=torch.zeros(3, dtype=torch.float64),
                rows=torch.arange(3),
            )
        )
    return drawn


def without_padding() -> list[Batch]:
    """The same texts one by one."""
    return [
        Batch(
            input_ids=tokens[mask.bool()][None],
            attention_mask=mask[mask.bool()][None],
            token_type_ids=None,
            targets=torch.zeros(1, dtype=torch.float64),
            rows=torch.zeros(1, dtype=torch.long),
        )
        for batch in batches()
        for tokens, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    ]


def converted_for_wanda(
    family: Family, pattern: NOfM | None = None
) -> tuple[PreTrainedModel, Converted]:
    model = family.build()
    return model, convert(model, Pruning(method="wanda", pattern=pattern), Hyperparameters())


def calibrated(family: Family, texts: Sequence[Batch], pattern: NOfM | None = None) -> Converted:
    model, converted = converted_for_wanda(family, pattern)
    calibrate(model, converted, texts, SPARSITY)
    return converted


def plain_scores(family: Family, texts: Sequence[Batch]) -> dict[str, Tensor]:
    """|W|·‖x‖ of each matrix, O×I: for each block the whole model runs from its first token."""
    model, scores = family.build(), {}
    for block in range(2):
        names = [name for name in family.names() if name.startswith(f"{family.blocks}.{block}.")]
        norms = input_norms(model, names, texts)
        for name in names:
            weight_OI = plain_weight(model, name)
            scores[name] = weight_OI.abs() * norms[name]
            # A view: it prunes the model's own weight.
            weight_OI[~plain_mask(scores[name], plain_parts(name, weight_OI))] = 0
    return scores


def input_norms(
    model: PreTrainedModel, names: Sequence[str], texts: Sequence[Batch]
) -> dict[str, Tensor]:
    """‖x_j‖ of what reaches each layer, over the tokens of all texts without the padding."""
    seen: dict[str, list[Tensor]] = {name: [] for name in names}

    def note(name: str) -> None:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen[name].append(args[0].reshape(-1, args[0].shape[-1]))

        hooks.append(model.get_submodule(name).register_forward_pre_hook(hook))

    hooks: list[torch.utils.hooks.RemovableHandle] = []
    for name in names:
        note(name)
    with torch.no_grad():
        for batch in texts:
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
    for hook in hooks:
        hook.remove()
    counted = [batch.attention_mask.reshape(-1).bool() for batch in texts]
    return {
        name: torch.cat([x_NI[kept] for x_NI, kept in zip(inputs, counted, strict=True)])
        .double()
        .norm(dim=0)
        .float()
        for name, inputs in seen.items()
    }


def plain_weight(model: PreTrainedModel, name: str) -> Tensor:
    weight = model.get_parameter(f"{name}.weight").detach()
    return weight.T if name.rpartition(".")[2] in {"c_attn", "c_proj", "c_fc"} else weight


def plain_parts(name: str, weight_OI: Tensor) -> list[int]:
    fused = {"c_attn": [32, 32, 32], "qkv_proj": [32, 16, 16], "gate_up_proj": [48, 48]}
    return fused.get(name.rpartition(".")[2], [len(weight_OI)])


def plain_mask(scores_OI: Tensor, parts: Sequence[int]) -> Tensor:
    """Drop each row's lowest entries, and one entry more of the first rows, to the exact count."""
    keep = torch.ones_like(scores_OI, dtype=torch.bool)
    for keep_OI, part_OI in zip(keep.split(parts), scores_OI.split(parts), strict=True):
        each, more = divmod(int(SPARSITY * part_OI.numel()), len(part_OI))
        for row, order in enumerate(part_OI.argsort(dim=1, stable=True)):
            keep_OI[row, order[: each + (row < more)]] = False
    return keep


@each_family
def test_masks_are_those_of_the_papers_loop_run_plainly(family: Family) -> None:
    converted = calibrated(family, batches())
    for name, scores_OI in plain_scores(family, batches()).items():
        layer = converted.layers[name]
        assert torch.equal(layer.mask(), plain_mask(scores_OI, plain_parts(name, scores_OI))), name


@each_family
def test_scores_rank_each_row_by_weight_times_norm(family: Family) -> None:
    converted = calibrated(family, batches())
    for name, scores_OI in plain_scores(family, batches()).items():
        ranks_OI = scores_OI.argsort(dim=1, stable=True).argsort(dim=1)
        # Sums in another order may swap neighbours.
        assert (converted.layers[name].score() - ranks_OI).abs().max() <= 1


@each_family
def test_every_row_loses_its_share_and_the_matrix_exactly(family: Family) -> None:
    for layer in calibrated(family, batches()).layers.values():
        for part_OI in (~layer.mask()).split(layer.selector.parts):
            share = SPARSITY * part_OI.shape[1]
            assert set(part_OI.sum(1).tolist()) <= {int(share), int(share) + 1}
            assert int(part_OI.sum()) == int(SPARSITY * part_OI.numel())


@pytest.mark.parametrize("family", ["bert", "gpt2-lm", "llama"])
def test_padding_is_not_counted(family: str) -> None:
    padded = calibrated(FAMILIES[family], batches(padding=33)).layers
    alone = calibrated(FAMILIES[family], without_padding()).layers
    assert all(torch.equal(padded[name].mask(), alone[name].mask()) for name in padded)


def test_later_blocks_see_what_the_pruned_ones_before_them_give() -> None:
    family = FAMILIES["bert"]
    model, norms = family.build(), "bert.encoder.layer.1.attention.self.query"
    unpruned = (
        model.get_parameter(f"{norms}.weight").abs() * input_norms(model, [norms], batches())[norms]
    )
    found = calibrated(family, batches()).layers[norms].mask()
    assert not torch.equal(found, plain_mask(unpruned, [32]))


def test_a_pattern_keeps_the_highest_of_each_group() -> None:
    family = FAMILIES["bert"]
    converted = calibrated(family, batches(), NOfM(2, 4))
    name = family.names()[0]
    # The first block's inputs are the same, whatever is pruned.
    groups = plain_scores(family, batches())[name].reshape(-1, 4)
    keep = torch.zeros_like(groups, dtype=torch.bool).scatter(1, groups.topk(2).indices, value=True)
    assert torch.equal(converted.layers[name].mask(), keep.view(32, 32))


def test_a_block_without_sparse_layers_is_run_all_the_same() -> None:
    model = FAMILIES["bert"].build()
    pruning = Pruning(method="wanda", include=["*.layer.1.*"])
    converted = convert(model, pruning, Hyperparameters())
    calibrate(model, converted, batches(), SPARSITY)
    dense, name = FAMILIES["bert"].build(), "bert.encoder.layer.1.attention.self.query"
    scores_OI = plain_weight(dense, name).abs() * input_norms(dense, [name], batches())[name]
    assert torch.equal(converted.layers[name].mask(), plain_mask(scores_OI, [32]))


def test_the_sparsity_is_left_set_and_nothing_has_a_gradient() -> None:
    model, converted = converted_for_wanda(FAMILIES["bert"])
    calibrate(model, converted, batches(), SPARSITY)
    assert {layer.sparsity for layer in converted.layers.values()} == {SPARSITY}
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_hook_stays_behind() -> None:
    model, converted = converted_for_wanda(FAMILIES["bert"])
    calibrate(model, converted, batches(), SPARSITY)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_the_layers_of_another_criterion_are_a_mistake_of_ours() -> None:
    model = FAMILIES["bert"].build()
    converted = convert(model, Pruning(method="pst"), Hyperparameters())
    with pytest.raises(TypeError, match="PSTLinear has no score of its own"):
        calibrate(model, converted, batches(), SPARSITY)


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (
            lambda: hf.AlbertModel(hf.AlbertConfig(**SIZES, embedding_size=16)),
            "its blocks do not run once each",
        ),
        (
            lambda: hf.T5ForSequenceClassification(hf.T5Config(**T5_SIZES)),
            r"decoder\.block\.0.* is not one of the blocks transformer\.encoder\.block\.\*",
        ),
    ],
    ids=["shared-blocks", "two-stacks"],
)
def test_a_model_that_is_not_one_block_after_the_other_is_refused(
    build: Callable[[], PreTrainedModel], why: str
) -> None:
    model = build()
    converted = convert(model, Pruning(method="wanda"), Hyperparameters())
    with pytest.raises(UnsupportedModelError, match=why) as caught:
        calibrate(model, converted, batches(), SPARSITY)
    assert caught.value.field == "method"
