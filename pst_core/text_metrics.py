"""Metrics of generated text against references, by the libraries that define them.

BLEU, chrF and ROUGE-L are estimated with intervals; NIST, which weighs n-grams by the whole
corpus, is a number alone. The higher the better, all of them.
"""

from collections.abc import Callable, Sequence
from itertools import zip_longest

import numpy as np
from sacrebleu.metrics.base import Metric as SacrebleuMetric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from pst_core.bootstrap import Floats, Sample, estimate, mean
from pst_core.report import Estimate, Scores

NIST_ORDER = 5

Texts = Sequence[str]
References = Sequence[Sequence[str]]


class _BySums(SacrebleuMetric):
    """A corpus metric of sacrebleu's: the score of statistics (K a row) summed over the rows."""

    def sample(self, hypotheses: Texts, references: References) -> Sample:
        # One stream for all first references, one for all second ones, …; None fills the gaps.
        streams = list(zip_longest(*references))
        statistics_NK = np.array(
            self._extract_corpus_statistics(hypotheses, streams), dtype=np.float64
        )

        def at(weights: Floats) -> float:
            # Counts: the sums are exact, in whatever order.
            sums_K = (weights @ statistics_NK).tolist()
            return float(self._compute_score_from_stats(sums_K).score)

        return Sample(len(hypotheses), at)


class _Bleu(_BySums, BLEU):
    def tokens(self, text: str) -> list[str]:
        return self._preprocess_segment(text).split()


class _Chrf(_BySums, CHRF):
    pass


def bleu(hypotheses: Texts, references: References) -> Sample:
    """BLEU of the corpus, 0 to 100, as sacrebleu (Papineni et al. 2002; Post 2018).

    Mixed case, tokenized by 13a, smoothed `exp`; 0 if no hypothesis has four tokens.
    """
    # `force` silences the guess that the text is already tokenized.
    return _Bleu(force=True).sample(hypotheses, references)


def chrf(hypotheses: Texts, references: References) -> Sample:
    """chrF2 of the corpus, 0 to 100, as sacrebleu (Popović 2015): 6 characters, no words."""
    return _Chrf().sample(hypotheses, references)


def rouge_l(hypotheses: Texts, references: References) -> Sample:
    """The F-measure of the longest common subsequence, 0 to 1 (Lin 2004), without stemming.

    For each prompt the best of its references; then the mean. The tokens are rouge-score's:
    lower case, of the letters a to z and digits alone.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    return mean(
        np.array(
            [
                scorer.score_multi(texts, hypothesis)["rougeL"].fmeasure
                for hypothesis, texts in zip(hypotheses, references, strict=True)
            ],
            dtype=np.float64,
        )
    )


def nist(hypotheses: Texts, references: References) -> float:
    """NIST of the corpus with n-grams up to 5 (Doddington 2002), as nltk, on BLEU's tokens.

    Orders longer than every hypothesis count nothing; nltk would divide by zero.
    """
    from nltk.translate.nist_score import corpus_nist

    split = _Bleu().tokens
    generated = [split(text) for text in hypotheses]
    wanted = [[split(text) for text in texts] for texts in references]
    # No n-gram is longer than its text.
    order = min(NIST_ORDER, max(map(len, generated)))
    if order == 0 or not any(any(texts) for texts in wanted):
        return 0.0
    return float(corpus_nist(wanted, generated, order))


TEXT_METRICS: dict[str, Callable[[Texts, References], Sample]] = {
    "bleu": bleu,
    "chrf": chrf,
    "rouge_l": rouge_l,
}


def text_scores(hypotheses: Texts, references: References) -> Scores:
    """All metrics of generated text, with BLEU as the primary.

    Args:
        hypotheses: One generated text a prompt; it may be empty.
        references: The texts it may be, at least one a prompt.

    Raises:
        ValueError: There are no prompts, or one without reference or hypothesis.
    """
    _check(hypotheses, references)
    metrics = {
        name: estimate(sample(hypotheses, references)) for name, sample in TEXT_METRICS.items()
    }
    metrics["nist"] = Estimate(value=nist(hypotheses, references), low=None, high=None)
    return Scores(primary="bleu", metrics=metrics, rows=len(hypotheses), constant=None)


def _check(hypotheses: Texts, references: References) -> None:
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(
            f"{len(hypotheses)} hypotheses and references for {len(references)} prompts: "
            "give one hypothesis a prompt, and at least one prompt"
        )
    if not all(references):
        raise ValueError("a prompt has no reference: give at least one for each")
