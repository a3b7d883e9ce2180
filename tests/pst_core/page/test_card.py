"""The model card: the Hub reads its metadata, people how to load the folder and what it is."""

import json
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from pst_core.page.card import render_card
from pst_core.report import Outcome
from tests.pst_core.sample_report import report, spec


def outcome(**changes: object) -> Outcome:
    """The sample's, with changes of its spec."""
    document = report().outcome.model_dump(mode="json")
    return Outcome.model_validate_json(json.dumps(document | {"spec": spec(**changes)}))


def metadata(card: str) -> dict[str, Any]:
    _, block, _ = card.split("---\n", 2)
    loaded: dict[str, Any] = yaml.safe_load(block)
    return loaded


def test_the_hubs_own_parser_reads_the_metadata() -> None:
    card = render_card(outcome(), "packed")
    assert ModelCard(card).data == ModelCardData(**metadata(card))
    assert metadata(card)["pipeline_tag"] == "text-classification"


def test_every_metric_is_in_the_metadata() -> None:
    (entry,) = metadata(render_card(outcome(), "packed"))["model-index"]
    named = {found["type"] for result in entry["results"] for found in result["metrics"]}
    assert named == set(outcome().evaluation.test.metrics)


def test_the_base_model_and_the_data_are_named_where_they_are_on_the_hub() -> None:
    found = outcome(model="hub:google/bert", dataset="hub:stanfordnlp/sst2")
    block = metadata(render_card(found, "dense"))
    assert block["base_model"] == "google/bert"
    assert block["datasets"] == ["stanfordnlp/sst2"]


def test_a_model_of_a_package_claims_no_base_on_the_hub() -> None:
    block = metadata(render_card(outcome(), "dense"))
    assert "base_model" not in block
    assert "datasets" not in block


def test_each_format_says_how_it_is_loaded() -> None:
    assert "pst_core.load(folder)" in render_card(outcome(), "packed")
    assert "AutoModelForSequenceClassification.from_pretrained" in render_card(outcome(), "dense")


def test_a_language_model_is_loaded_as_one() -> None:
    assert "AutoModelForCausalLM" in render_card(outcome(task="causal-lm"), "dense")


def test_rounded_values_are_told_of_the_format_that_has_them() -> None:
    rounded = outcome(value_dtype="bfloat16")
    assert "packed, rounded to bfloat16" in render_card(rounded, "packed")
    assert "bfloat16" not in render_card(rounded, "dense")


def test_zeros_are_not_sold_as_speed() -> None:
    assert "do not make a model faster" in render_card(outcome(), "packed")
