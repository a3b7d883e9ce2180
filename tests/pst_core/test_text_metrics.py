"""Text metrics are those of the libraries that define them, with intervals where rows add up."""

from typing import Any

import numpy as np
import pytest
from nltk.translate.nist_score import corpus_nist
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from pst_core.bootstrap import paired_difference
from pst_core.text_metrics import TEXT_METRICS, nist, text_scores

HYPOTHESES = [
    "The Eagle is a cheap coffee shop near the river .",
    "Fitzbillies serves good English food in the city centre.",
    "A pub",
    "",
]
REFERENCES = [
    ["The Eagle is a cheap coffee shop by the riverside.", "The Eagle sells cheap coffee."],
    ["Fitzbillies serves English food in the city centre."],
    ["A pub.", "It is a pub.", "There is a pub named The Vaults near the Café Adriatic."],
    ["The Mill is not for families."],
]
WORSE = ["The Eagle sells tea by the river.", "Fitzbillies serves food.", "A pub", "No."]
# sacrebleu takes None where a prompt has fewer references; its types do not say so.
STREAMS: list[list[Any]] = [
    [texts[place] if place < len(texts) else None for texts in REFERENCES] for place in range(3)
]


def test_the_primary_metric_is_sacrebleus_bleu() -> None:
    expected = BLEU().corpus_score(HYPOTHESES, STREAMS).score
    assert text_scores(HYPOTHESES, REFERENCES).value == expected > 0


@pytest.mark.parametrize(("name", "metric"), [("bleu", BLEU()), ("chrf", CHRF())])
def test_a_corpus_metric_on_a_resample_is_sacrebleus_on_the_same_texts(
    name: str, metric: BLEU | CHRF
) -> None:
    drawn = [1, 0, 1, 3]
    found = TEXT_METRICS[name](HYPOTHESES, REFERENCES).at(np.array([1.0, 2.0, 0.0, 1.0]))
    streams = [[stream[row] for row in drawn] for stream in STREAMS]
    assert found == metric.corpus_score([HYPOTHESES[row] for row in drawn], streams).score


def test_rouge_l_is_the_mean_of_the_best_reference_by_rouge_score() -> None:
    scorer = RougeScorer(["rougeL"])
    best = [
        max(scorer.score(text, hypothesis)["rougeL"].fmeasure for text in texts)
        for hypothesis, texts in zip(HYPOTHESES, REFERENCES, strict=True)
    ]
    found = text_scores(HYPOTHESES, REFERENCES).metrics["rouge_l"].value
    assert found == pytest.approx(sum(best) / 4)


def test_nist_is_nltks_on_mteval_tokens() -> None:
    def tokens(text: str) -> list[str]:
        return text.replace(".", " .").split()

    references = [[tokens(text) for text in texts] for texts in REFERENCES[:2]]
    expected = corpus_nist(references, [tokens(text) for text in HYPOTHESES[:2]])
    assert nist(HYPOTHESES[:2], REFERENCES[:2]) == pytest.approx(expected)
    assert expected > 1


def test_identical_text_scores_the_most() -> None:
    texts = ["The Eagle is a cheap coffee shop.", "Fitzbillies serves English food."]
    found = text_scores(texts, [[text] for text in texts]).metrics
    assert found["bleu"].value == pytest.approx(100)
    assert found["chrf"].value == pytest.approx(100)
    assert found["rouge_l"].value == 1


@pytest.mark.parametrize(
    ("hypotheses", "references"),
    [
        ([""], [["A pub."]]),
        (["A pub."], [[""]]),
        ([""], [[""]]),
        (["   "], [["A pub.", ""]]),
        (["pub"], [["pub"]]),
        (["猫が好き"], [["犬が好き"]]),
        (["", "A pub near the river."], [["A pub."], ["A pub near the river."]]),
    ],
)
def test_short_and_empty_texts_have_scores_from_0_to_the_most(
    hypotheses: list[str], references: list[list[str]]
) -> None:
    found = text_scores(hypotheses, references).metrics
    assert all(estimate.value >= 0 for estimate in found.values())
    assert max(found["bleu"].value, found["chrf"].value) <= 100 + 1e-9


def test_an_empty_hypothesis_scores_0() -> None:
    found = text_scores([""], [["A pub near the river."]]).metrics
    assert {estimate.value for estimate in found.values()} == {0}


def test_one_prompt_has_an_interval_of_no_width() -> None:
    found = text_scores(HYPOTHESES[:1], REFERENCES[:1]).estimate
    assert found.low == found.value == found.high


def test_all_have_an_interval_but_nist() -> None:
    found = text_scores(HYPOTHESES, REFERENCES)
    assert {name for name, one in found.metrics.items() if one.low is None} == {"nist"}
    assert (found.rows, found.constant) == (4, None)


def test_the_same_texts_give_the_same_scores_to_the_last_bit() -> None:
    assert text_scores(HYPOTHESES, REFERENCES) == text_scores(HYPOTHESES, REFERENCES)


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_a_difference_is_the_models_metric_minus_the_baselines(name: str) -> None:
    sample = TEXT_METRICS[name]
    found = paired_difference(sample(HYPOTHESES, REFERENCES), sample(WORSE, REFERENCES))
    model, baseline = (text_scores(texts, REFERENCES).metrics for texts in (HYPOTHESES, WORSE))
    assert found.value == pytest.approx(model[name].value - baseline[name].value)
    assert found.value > 0


@pytest.mark.parametrize(
    ("hypotheses", "references", "message"),
    [
        ([], [], "at least one prompt"),
        (["A pub."], [], "one hypothesis a prompt"),
        (["A pub.", "A bar."], [["A pub."], []], "no reference"),
    ],
)
def test_prompts_without_hypothesis_or_reference_are_refused(
    hypotheses: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        text_scores(hypotheses, references)
