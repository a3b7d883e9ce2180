"""One answer a text: what is encoded, lost, distilled and scored, whatever else is in the batch."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, RobertaConfig

from pst_core.batches import Batch, Collator, Example, Examples
from pst_core.tasks import Task, sequence
from tests.pst_core import tiny

CLASSIFICATION = tiny.task("text-classification")
REGRESSION = tiny.task("text-regression")
LABELS = ("bad", "good")
WORD = tiny.VOCABULARY


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    return tiny.tokenizer(tiny.save_model(tmp_path_factory.mktemp("bert")))


@pytest.fixture
def model() -> PreTrainedModel:
    return tiny.classifier()


def encode(
    tokenizer: PreTrainedTokenizerBase, *cells: dict[str, str], task: Task = CLASSIFICATION
) -> list[Example]:
    return list(task.encode(tiny.rows(*cells), LABELS, tokenizer))


def tokens(*words: str) -> list[int]:
    return [WORD[word] for word in words]


def batch_of(targets: list[float]) -> Batch:
    """A batch of which the targets alone matter."""
    nothing = torch.zeros(len(targets), 1, dtype=torch.long)
    return Batch(nothing, nothing, None, torch.tensor(targets, dtype=torch.float64), nothing[:, 0])


def logits_alone(model: PreTrainedModel, example: Example) -> Tensor:
    """What a model says about one example, without padding, dropout or anything of ours."""
    was_training = model.training
    ids = torch.tensor(example.tokens, dtype=torch.long)[None]
    logits: Tensor = model.eval()(input_ids=ids).logits[0]
    model.train(was_training)
    return logits.detach()


def test_labels_become_their_numbers(tokenizer: PreTrainedTokenizerBase) -> None:
    cells = [
        {"text": "fine", "label": "good"},
        {"text": "dull", "label": "bad"},
    ]
    assert [example.target for example in encode(tokenizer, *cells)] == [1, 0]


def test_a_text_gets_the_tokenizers_marks(tokenizer: PreTrainedTokenizerBase) -> None:
    (example,) = encode(tokenizer, {"text": "fine film", "label": "good"})
    assert example.tokens.tolist() == tokens("[CLS]", "fine", "film", "[SEP]")


def test_a_longer_text_is_cut_and_keeps_its_marks(tokenizer: PreTrainedTokenizerBase) -> None:
    task = tiny.task("text-classification", hyperparameters={"max_length": 5})
    (example,) = encode(tokenizer, {"text": "a fine film and plot", "label": "good"}, task=task)
    assert example.tokens.tolist() == tokens("[CLS]", "a", "fine", "film", "[SEP]")


def test_of_a_pair_the_longer_text_is_cut_first(tokenizer: PreTrainedTokenizerBase) -> None:
    task = tiny.task("text-classification", hyperparameters={"max_length": 6})
    cells = {"text": "a fine film and plot", "pair": "dull", "label": "good"}
    (example,) = encode(tokenizer, cells, task=task)
    assert example.tokens.tolist() == tokens("[CLS]", "a", "fine", "[SEP]", "dull", "[SEP]")


def test_a_pair_knows_where_its_second_text_begins(tokenizer: PreTrainedTokenizerBase) -> None:
    (example,) = encode(tokenizer, {"text": "a film", "pair": "dull plot", "label": "bad"})
    assert example.tokens.tolist() == tokens("[CLS]", "a", "film", "[SEP]", "dull", "plot", "[SEP]")
    assert example.second == 4


def test_a_text_alone_has_no_second(tokenizer: PreTrainedTokenizerBase) -> None:
    (example,) = encode(tokenizer, {"text": "a film", "label": "bad"})
    assert example.second is None


def test_berts_batches_have_the_token_types_of_its_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    cells = [
        {"text": "a film", "pair": "dull plot", "label": "bad"},
        {"text": "a", "pair": "film", "label": "bad"},
    ]
    examples = Examples.collect(encode(tokenizer, *cells))
    types = Collator.of(tokenizer, tiny.bert_config())(examples, [0, 1]).token_type_ids
    expected = tokenizer(
        [row["text"] for row in cells],
        [row["pair"] for row in cells],
        padding=True,
        return_tensors="pt",
    )
    assert types is not None
    assert torch.equal(types, expected["token_type_ids"])


def test_a_roberta_like_tokenizer_gives_no_token_types(tmp_path: Path) -> None:
    tiny.save_model(tmp_path)
    tiny.save_tokenizer(tmp_path, ends=True)
    collator = Collator.of(tiny.tokenizer(tmp_path), RobertaConfig())
    assert not collator.token_types


def test_a_pair_without_token_types_knows_its_second_text_too(tmp_path: Path) -> None:
    tiny.save_model(tmp_path)
    tiny.save_tokenizer(tmp_path, ends=True)
    tokenizer = tiny.tokenizer(tmp_path)
    cells = {"text": "a film", "pair": "dull plot", "label": "bad"}
    # So does RoBERTa's: its tokens are all of one type.
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] [SEP] $B [SEP]",
        special_tokens=[("[CLS]", tiny.VOCABULARY["[CLS]"]), ("[SEP]", tiny.VOCABULARY["[SEP]"])],
    )
    examples = Examples.collect(encode(tokenizer, cells))
    assert examples[0].second == 5
    assert Collator.of(tokenizer, RobertaConfig())(examples, [0]).token_type_ids is None


def test_token_types_are_the_tokenizers_own(tmp_path: Path) -> None:
    tiny.save_model(tmp_path)
    tiny.save_tokenizer(tmp_path, ends=True, segments=True)
    tokenizer = tiny.tokenizer(tmp_path)
    # It has types, and gives those of a pair none but the first.
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A:0 [SEP]:0 $B:0 [SEP]:0",
        special_tokens=[("[CLS]", tiny.VOCABULARY["[CLS]"]), ("[SEP]", tiny.VOCABULARY["[SEP]"])],
    )
    examples = Examples.collect(
        encode(tokenizer, {"text": "a film", "pair": "dull plot", "label": "bad"})
    )
    types = Collator.of(tokenizer, tiny.bert_config())(examples, [0]).token_type_ids
    assert types is not None
    assert not types.any()


def test_a_model_without_segments_gets_no_token_types(tokenizer: PreTrainedTokenizerBase) -> None:
    # GPT-2 would add the embedding of the word 0 to each token.
    assert "token_type_ids" in tokenizer.model_input_names
    assert not Collator.of(tokenizer, tiny.language_model().config).token_types


def test_many_rows_are_encoded_in_their_order(
    tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sequence, "ROWS_AT_ONCE", 3)
    words = [*tiny.GOOD, *tiny.BAD, "plot"]
    examples = encode(tokenizer, *({"text": word, "label": "bad"} for word in words))
    assert [int(example.tokens[1]) for example in examples] == tokens(*words)


def test_the_loss_of_a_class_is_the_mean_cross_entropy() -> None:
    logits_BC = torch.randn(4, 3)
    targets = [2.0, 0.0, 1.0, 2.0]
    shares_BC = logits_BC.exp() / logits_BC.exp().sum(1, keepdim=True)
    expected = -sum(shares_BC[row, int(k)].log() for row, k in enumerate(targets)) / 4
    torch.testing.assert_close(CLASSIFICATION.loss(logits_BC, batch_of(targets)), expected)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_distance_of_classes_is_the_softened_divergence(temperature: float) -> None:
    task = tiny.task(
        "text-classification", hyperparameters={"distillation_temperature": temperature}
    )
    mine_BC, teacher_BC = torch.randn(4, 3), torch.randn(4, 3)
    p_BC, q_BC = ((logits / temperature).softmax(1) for logits in (teacher_BC, mine_BC))
    expected = temperature**2 * (p_BC * (p_BC / q_BC).log()).sum(1).mean()
    found = task.distance(mine_BC, teacher_BC)
    assert found is not None
    torch.testing.assert_close(found, expected)


def test_equal_logits_are_no_distance_apart() -> None:
    logits_BC = torch.randn(4, 3)
    for task in (CLASSIFICATION, REGRESSION):
        distance = task.distance(logits_BC, logits_BC.clone())
        assert distance is not None
        assert distance.item() == pytest.approx(0, abs=1e-6)


def test_answers_are_those_of_each_text_alone(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    examples = tiny.random_examples()
    answers = np.array([int(logits_alone(model, example).argmax()) for example in examples])
    scores = CLASSIFICATION.evaluate(model, examples, tokenizer).scores
    assert scores.value == np.mean(answers == examples.targets)
    assert scores.rows == len(examples)


@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews"])
def test_every_metric_of_classes_is_reported_and_the_asked_one_decides(
    metric: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    task = tiny.task("text-classification", metric=metric)
    found = task.evaluate(model, tiny.random_examples(), tokenizer)
    assert found.scores.metrics.keys() == {"accuracy", "f1", "matthews"}
    assert found.scores.primary == metric
    assert found.sample.value() == found.scores.value


@pytest.mark.parametrize("metric", ["accuracy", "f1", "matthews"])
def test_the_deciding_metric_alone_is_that_of_all_scores(
    metric: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    task, examples = tiny.task("text-classification", metric=metric), tiny.random_examples()
    found = task.sample(model, examples, tokenizer).value()
    assert found == task.evaluate(model, examples, tokenizer).scores.value


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_knows_no_dropout_and_leaves_the_mode_as_it_was(
    training: bool, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    examples = tiny.random_examples()
    expected = torch.stack([logits_alone(model, example) for example in examples])
    model.train(training)
    found = CLASSIFICATION.teacher_logits(model, examples, tokenizer)
    assert found is not None
    torch.testing.assert_close(found, expected)
    CLASSIFICATION.evaluate(model, examples, tokenizer)
    assert {module.training for module in model.modules()} == {training}


def test_a_teachers_logits_come_in_the_order_of_the_examples(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than one batch, and the long ones come first.
    monkeypatch.setattr(CLASSIFICATION, "batch_size", 5)
    examples = tiny.random_examples()
    found = CLASSIFICATION.teacher_logits(model, examples, tokenizer)
    assert found is not None
    expected = torch.stack([logits_alone(model, example) for example in examples])
    torch.testing.assert_close(found, expected)


def test_a_teachers_logits_can_be_learned_from(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    teacher_NC = CLASSIFICATION.teacher_logits(model, tiny.random_examples(), tokenizer)
    assert teacher_NC is not None
    logits_BC = torch.zeros(4, 2, requires_grad=True)
    for task in (CLASSIFICATION, REGRESSION):
        distance = task.distance(logits_BC, teacher_NC[:4])
        assert distance is not None
        distance.backward()
    assert logits_BC.grad is not None


@pytest.fixture(params=["[PAD]", None], ids=["padding token", "none"])
def decoder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A GPT-2 whose configuration knows no padding, and a tokenizer with or without it."""
    tiny.save_language_model(tmp_path)
    tiny.save_tokenizer(tmp_path, ends=False, pad=request.param)
    return tmp_path


def test_a_decoder_classifies_a_padded_text_as_it_does_without_padding(decoder: Path) -> None:
    tokenizer = tiny.tokenizer(decoder)
    model = CLASSIFICATION.load_model(decoder, LABELS, tokenizer, seed=0)
    examples = tiny.random_examples()
    found = CLASSIFICATION.teacher_logits(model, examples, tokenizer)
    assert found is not None
    expected = torch.stack([logits_alone(model, example) for example in examples])
    torch.testing.assert_close(found, expected)


def test_a_classifiers_configuration_names_its_labels(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path)
    model = CLASSIFICATION.load_model(folder, LABELS, tiny.tokenizer(folder), seed=0)
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert model.config.label2id == {"bad": 0, "good": 1}


def test_a_number_is_its_own_target(tokenizer: PreTrainedTokenizerBase) -> None:
    cells = [
        {"text": "fine", "label": "4.25"},
        {"text": "dull", "label": "-1"},
    ]
    found = encode(tokenizer, *cells, task=REGRESSION)
    assert [example.target for example in found] == [4.25, -1.0]


def test_a_regression_has_one_output(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path)
    model = REGRESSION.load_model(folder, (), tiny.tokenizer(folder), seed=0)
    logits_BC = REGRESSION.logits(model, next(tiny.random_batches()))
    assert logits_BC.shape == (8, 1)
    assert model.config.problem_type == "regression"


def test_the_loss_of_numbers_is_the_mean_squared_error() -> None:
    logits_B1 = torch.tensor([[1.0], [2.0], [-1.0]])
    assert REGRESSION.loss(logits_B1, batch_of([1.5, 0.0, -1.0])).item() == pytest.approx(4.25 / 3)


def test_the_distance_of_numbers_is_the_mean_squared_error() -> None:
    distance = REGRESSION.distance(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [4.0]]))
    assert distance is not None
    assert distance.item() == pytest.approx(2.5)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("pearson", lambda x, y: np.corrcoef(x, y)[0, 1]),
        ("mse", lambda x, y: np.mean((x - y) ** 2)),
    ],
)
def test_numbers_are_scored_by_what_the_model_says_of_each_text_alone(
    metric: str,
    expected: Callable[[np.ndarray, np.ndarray], float],
    tmp_path: Path,
) -> None:
    folder = tiny.save_model(tmp_path)
    tokenizer = tiny.tokenizer(folder)
    task = tiny.task("text-regression", metric=metric)
    model = task.load_model(folder, (), tokenizer, seed=0)
    examples = tiny.random_examples()
    answers = np.array([float(logits_alone(model, example)) for example in examples])
    scores = task.evaluate(model, examples, tokenizer).scores
    assert scores.metrics.keys() == {"pearson", "spearman", "mse"}
    assert scores.primary == metric
    assert scores.value == pytest.approx(expected(answers, examples.targets), rel=1e-3)
