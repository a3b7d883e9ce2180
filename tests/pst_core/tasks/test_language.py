"""Text that continues text: what is cut into blocks, what counts in the loss, what is written."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    BertForMaskedLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pst_core.batches import Batch, Collator, Example, Examples
from pst_core.errors import UnsupportedModelError
from pst_core.tasks import Task, language
from pst_core.tasks.base import Scored
from pst_core.tasks.language import DataToText
from pst_core.text_metrics import bleu
from tests.pst_core import tiny

BLOCKS = tiny.task("causal-lm", hyperparameters={"max_length": 5})
COMPLETIONS = tiny.task("data-to-text", hyperparameters={"max_new_tokens": 6, "beams": 3})
END = tiny.VOCABULARY["[SEP]"]
COLLATE = Collator(pad_token=0, token_types=False)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return tiny.tokenizer(tiny.save_language_model(tmp_path_factory.mktemp("gpt2")))


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny.language_model()


def tokens(text: str) -> list[int]:
    return [tiny.VOCABULARY[word] for word in text.split()]


def blocks(tokenizer: PreTrainedTokenizerBase, *texts: str) -> list[list[int]]:
    rows = tiny.rows(*({"text": text} for text in texts))
    return [example.tokens.tolist() for example in BLOCKS.encode(rows, (), tokenizer)]


def completions(
    tokenizer: PreTrainedTokenizerBase, *pairs: tuple[str, str], task: Task = COMPLETIONS
) -> Examples:
    rows = tiny.rows(*({"prompt": prompt, "completion": text} for prompt, text in pairs))
    return Examples.collect(task.encode(rows, (), tokenizer))


def scored(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *pairs: tuple[str, str],
    task: Task = COMPLETIONS,
) -> Scored:
    rows = tiny.rows(*({"prompt": prompt, "completion": text} for prompt, text in pairs))
    examples = Examples.collect(task.encode(rows, (), tokenizer))
    return task.evaluate(model, examples, tokenizer, rows)


def log_likelihood(model: PreTrainedModel, ids: Sequence[int], *, after: int = 1) -> float:
    """The log p of the tokens from a position on, one by one, without padding and dropout."""
    logits_TC = model.eval()(input_ids=torch.tensor([list(ids)])).logits[0]
    return math.fsum(
        logits_TC[place - 1].log_softmax(-1)[ids[place]].item() for place in range(after, len(ids))
    )


def batch_of(*examples: Example) -> Batch:
    return COLLATE(Examples.collect(examples), range(len(examples)))


def example(text: str, target: float = 0) -> Example:
    return Example(np.array(tokens(text), np.int32), target)


def test_texts_are_joined_by_the_end_token_and_cut_into_blocks(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    found = blocks(tokenizer, "a fine film", "the plot", "it was a scene")
    whole = tokens("a fine film [SEP] the plot [SEP] it was a scene [SEP]")
    assert found == [whole[:5], whole[5:10], whole[10:]]


def test_a_last_token_alone_is_left_out_as_nothing_predicts_it(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    assert blocks(tokenizer, "a fine film was dull") == [tokens("a fine film was dull")]


@settings(deadline=None, max_examples=30)
@given(texts=st.lists(st.lists(st.sampled_from(tiny.FILLER), min_size=1), min_size=1))
def test_every_token_is_in_exactly_one_block(
    tokenizer: PreTrainedTokenizerBase, texts: list[list[str]]
) -> None:
    found = blocks(tokenizer, *(" ".join(text) for text in texts))
    whole = [token for text in texts for token in (*tokens(" ".join(text)), END)]
    if len(whole) % 5 == 1:
        whole.pop()
    assert [token for block in found for token in block] == whole
    assert all(len(block) == 5 for block in found[:-1])


def test_the_loss_is_the_mean_over_the_predicted_tokens_without_the_padding(
    model: PreTrainedModel,
) -> None:
    long, short = example("a fine film and plot"), example("dull plot")
    found = BLOCKS.loss(BLOCKS.logits(model.eval(), batch_of(long, short)), batch_of(long, short))
    likelihoods = [log_likelihood(model, each.tokens.tolist()) for each in (long, short)]
    assert found.item() == pytest.approx(-sum(likelihoods) / (4 + 1), rel=1e-5)


def test_the_perplexity_is_that_of_each_block_alone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    examples = tiny.random_examples()
    found = BLOCKS.evaluate(model.train(), examples, tokenizer)
    likelihood = sum(log_likelihood(model, each.tokens.tolist()) for each in examples)
    predicted = sum(len(each.tokens) - 1 for each in examples)
    assert found.scores.value == pytest.approx(math.exp(-likelihood / predicted), rel=1e-4)
    assert found.scores.rows == len(examples)
    assert found.sample.value() == found.scores.value


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("task", [BLOCKS, COMPLETIONS], ids=["causal-lm", "data-to-text"])
def test_evaluation_knows_no_dropout_and_leaves_the_mode_as_it_was(
    task: Task, training: bool, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    rows = tiny.rows(
        {"prompt": "a film", "completion": "fine plot"},
        {"prompt": "the plot", "completion": "dull"},
    )
    examples = Examples.collect(COMPLETIONS.encode(rows, (), tokenizer))
    expected = task.evaluate(model.eval(), examples, tokenizer, rows).scores
    found = task.evaluate(model.train(training), examples, tokenizer, rows).scores
    assert found == expected
    assert {module.training for module in model.modules()} == {training}


def test_a_language_model_is_not_distilled(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert BLOCKS.teacher_logits(model, tiny.random_examples(), tokenizer) is None
    assert BLOCKS.distance(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)) is None


@pytest.mark.parametrize("task", [BLOCKS, COMPLETIONS], ids=["causal-lm", "data-to-text"])
def test_a_tokenizer_without_an_end_token_is_refused(task: Task, tmp_path: Path) -> None:
    endless = tiny.tokenizer(tiny.save_language_model(tmp_path))
    endless.eos_token = None
    rows = tiny.rows({"text": "a film", "prompt": "a", "completion": "film"})
    with pytest.raises(UnsupportedModelError, match="no end-of-text token") as caught:
        list(task.encode(rows, (), endless))
    assert caught.value.field == "model"


def test_an_encoder_with_a_head_for_words_is_refused(tmp_path: Path) -> None:
    BertForMaskedLM(tiny.bert_config()).save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path, ends=True)
    with pytest.raises(UnsupportedModelError, match="both directions") as caught:
        BLOCKS.load_model(tmp_path, (), tiny.tokenizer(tmp_path), seed=0)
    assert caught.value.field == "model"


def test_decoders_are_language_models(tmp_path: Path) -> None:
    for number, original in enumerate((tiny.language_model(), tiny.llama())):
        folder = tmp_path / str(number)
        original.save_pretrained(folder)
        tiny.save_tokenizer(folder, ends=False)
        model = BLOCKS.load_model(folder, (), tiny.tokenizer(folder), seed=0)
        weights = original.state_dict()
        assert all(torch.equal(w, weights[name]) for name, w in model.state_dict().items())


def test_a_prompt_and_its_completion_each_end_with_the_end_token(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    (found,) = completions(tokenizer, ("a film", "fine plot"))
    assert found.tokens.tolist() == tokens("a film [SEP] fine plot [SEP]")
    assert found.target == 3


def test_a_long_example_loses_the_beginning_of_its_prompt(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    task = tiny.task("data-to-text", hyperparameters={"max_length": 5})
    (found,) = completions(tokenizer, ("it was a film", "fine plot"), task=task)
    assert found.tokens.tolist() == tokens("film [SEP] fine plot [SEP]")
    assert found.target == 2


def test_a_completion_that_is_too_long_itself_loses_its_end(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    task = tiny.task("data-to-text", hyperparameters={"max_length": 4})
    (found,) = completions(tokenizer, ("a film", "it was a fine plot"), task=task)
    assert found.tokens.tolist() == tokens("[SEP] it was a")
    assert found.target == 1


def test_the_loss_is_the_completions_alone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    examples = completions(tokenizer, ("a film", "fine plot"), ("the scene", "it was dull"))
    batch = COLLATE(examples, [0, 1])
    found = COMPLETIONS.loss(COMPLETIONS.logits(model.eval(), batch), batch)
    likelihoods = [log_likelihood(model, each.tokens.tolist(), after=3) for each in examples]
    assert found.item() == pytest.approx(-sum(likelihoods) / (3 + 4), rel=1e-5)


def test_what_is_said_within_the_prompt_does_not_change_the_loss(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    examples = completions(tokenizer, ("a film", "fine plot"))
    batch = COLLATE(examples, [0])
    logits_BTC = torch.randn(1, 6, len(tiny.VOCABULARY), requires_grad=True)
    COMPLETIONS.loss(logits_BTC, batch).backward()
    assert logits_BTC.grad is not None
    # Places 2, 3 and 4 predict the three tokens of the completion; 5 predicts nothing.
    told = logits_BTC.grad[0].abs().sum(1) > 0
    assert told.tolist() == [False, False, True, True, True, False]


def test_the_perplexity_is_the_completions_alone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    pairs = [("a film", "fine plot"), ("the scene", "it was dull")]
    examples = completions(tokenizer, *pairs)
    scores = scored(model, tokenizer, *pairs).scores
    likelihoods = [log_likelihood(model, each.tokens.tolist(), after=3) for each in examples]
    expected = math.exp(-sum(likelihoods) / (3 + 4))
    assert scores.metrics["perplexity"].value == pytest.approx(expected, rel=1e-4)


def written_alone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, **options: object
) -> str:
    ids = torch.tensor([[*tokens(prompt), END]])
    settings = {"num_beams": 3, "max_new_tokens": 6, "do_sample": False} | options
    generate = cast("Any", model.eval()).generate
    out: Tensor = generate(
        ids,
        attention_mask=torch.ones_like(ids),
        eos_token_id=END,
        pad_token_id=END,
        **settings,
    )
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)).strip()


PROMPTS = ("a film", "the plot and it was", "scene", "actor and film and plot and scene", "dull a")


def test_a_batch_of_prompts_is_continued_as_each_prompt_alone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    expected = [written_alone(model, tokenizer, prompt) for prompt in PROMPTS]
    assert len(set(expected)) > 1
    assert isinstance(COMPLETIONS, DataToText)
    assert COMPLETIONS.write(model, PROMPTS, tokenizer) == expected


def test_what_the_models_own_settings_say_of_writing_does_not_count(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert isinstance(COMPLETIONS, DataToText)
    expected = COMPLETIONS.write(model, PROMPTS, tokenizer)
    own = GenerationConfig(repetition_penalty=5.0, min_new_tokens=6, suppress_tokens=[5, 6])
    model.generation_config = own
    assert COMPLETIONS.write(model, PROMPTS, tokenizer) == expected
    assert model.generation_config is own


def test_a_long_prompt_leaves_room_for_what_is_to_be_written(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    task = tiny.task("data-to-text", hyperparameters={"max_length": 10, "max_new_tokens": 6})
    assert isinstance(task, DataToText)
    # Ten less six: three words and the end.
    long = "scene dull actor and film"
    assert task.write(model, [long], tokenizer) == task.write(model, ["actor and film"], tokenizer)


def test_references_are_the_texts_as_they_stand(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    # Longer than max_length, and with a word that the tokenizer does not know.
    reference = "the quick actor " * 20
    sizes = {"max_length": 32, "max_new_tokens": 6, "beams": 3}
    task = tiny.task("data-to-text", hyperparameters=sizes)
    found = scored(model, tokenizer, ("a film", reference), task=task)
    expected = bleu([written_alone(model, tokenizer, "a film")], [[reference.strip()]])
    assert found.scores.value == pytest.approx(expected.value())


def test_rows_with_one_prompt_are_references_of_one_another(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    pairs = [("a film", "fine plot"), ("scene", "it was dull"), ("a film", "the actor was superb")]
    found = scored(model, tokenizer, *pairs)
    written = [written_alone(model, tokenizer, prompt) for prompt in ("a film", "scene")]
    expected = bleu(written, [[pairs[0][1], pairs[2][1]], [pairs[1][1]]])
    assert found.scores.rows == 2
    assert found.scores.value == pytest.approx(expected.value())
    assert found.sample.value() == found.scores.value


@pytest.mark.parametrize("metric", ["bleu", "perplexity"])
def test_the_deciding_metric_alone_is_that_of_all_scores(
    metric: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    task = tiny.task("data-to-text", metric=metric, hyperparameters={"max_new_tokens": 6})
    rows = tiny.rows({"prompt": "a film", "completion": written_alone(model, tokenizer, "a film")})
    examples = Examples.collect(task.encode(rows, (), tokenizer))
    found = task.sample(model, examples, tokenizer, rows).value()
    assert found == task.evaluate(model, examples, tokenizer, rows).scores.value > 0


def test_every_metric_of_written_text_is_reported(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    scores = scored(model, tokenizer, ("a", "film")).scores
    assert scores.primary == "bleu"
    assert scores.metrics.keys() == {"bleu", "chrf", "rouge_l", "nist", "perplexity"}


def test_where_perplexity_decides_nothing_is_written(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    task = tiny.task("data-to-text", metric="perplexity")
    examples = completions(tokenizer, ("a film", "fine plot"))
    found = scored(model, tokenizer, ("a film", "fine plot"), task=task)
    assert found.scores.primary == "perplexity"
    assert found.scores.metrics.keys() == {"perplexity"}
    likelihood = log_likelihood(model, examples[0].tokens.tolist(), after=3)
    assert found.sample.value() == pytest.approx(math.exp(-likelihood / 3), rel=1e-4)


def test_no_more_is_written_than_the_model_has_positions(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny.task("data-to-text", hyperparameters={"max_length": 64, "max_new_tokens": 64})
    # No end before the last position.
    monkeypatch.setattr(language, "end_token", lambda _: tiny.VOCABULARY["[CLS]"])
    assert isinstance(task, DataToText)
    monkeypatch.setattr(task, "hyper", task.hyper.model_copy(update={"max_length": 128}))
    assert len(task.write(model, ["a " * 61], tokenizer)) == 1
