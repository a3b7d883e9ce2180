"""Which columns usually play which role, by their names.

Free of torch. A name that the spec gives always comes first; two candidates are nobody's guess.
"""

from collections.abc import Collection, Mapping, Sequence

from pst_core.dataset_spec import Role, SplitName
from pst_core.errors import InvalidDatasetError

USUAL: Mapping[Role, tuple[str, ...]] = {
    "text": (
        "text", "texts", "sentence", "review", "review_text", "content", "comment", "comment_text",
        "body", "message", "tweet", "document", "article", "utterance", "query", "question",
        "description", "title", "headline", "sms", "post", "premise",
        "text1", "text_a", "sentence1", "sentence_1", "question1",
    ),
    "pair": (
        "pair", "text_pair", "hypothesis",
        "text2", "text_b", "sentence2", "sentence_2", "question2",
    ),
    "label": (
        "label", "labels", "sentiment", "class", "target", "category", "stars", "rating", "score",
        "topic", "intent", "emotion", "polarity", "similarity", "similarity_score",
    ),
    "prompt": (
        "prompt", "instruction", "input", "source", "mr", "meaning_representation",
    ),
    "completion": (
        "completion", "response", "output", "answer", "target", "reference", "human_reference",
    ),
}  # fmt: skip
SPLIT_COLUMNS = ("split", "subset", "partition", "fold")
SPLIT_NAMES: Mapping[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "dev"),
    "test": ("test",),
}
SPLIT_OF: Mapping[str, SplitName] = {
    name: split for split, names in SPLIT_NAMES.items() for name in names
}


def resolve(
    columns: Mapping[Role, str], header: Sequence[str], *, said: Collection[Role]
) -> dict[Role, str]:
    """The column of each role.

    Args:
        columns: What the spec says, and the defaults.
        header: The columns there are.
        said: The roles whose column the spec says.

    Returns:
        For a role that nothing fits, what there was: who reads the rows refuses it.

    Raises:
        InvalidDatasetError: Several columns fit.
    """
    found = dict(columns)
    for role, name in columns.items():
        if role in said or name in header:
            continue
        free = [column for column in header if column not in found.values()]
        fitting = candidates(role, free)
        # One text of two, read alone, would be trained on without a word.
        pairs = candidates("pair", free) if role == "text" and "pair" not in columns else []
        if len(fitting) + len(pairs) > 1:
            raise _ambiguous(role, [*fitting, *pairs])
        if fitting:
            found[role] = fitting[0]
    return found


def candidates(role: Role, header: Sequence[str]) -> list[str]:
    """The columns that may play a role; the one that has its very name stands alone."""
    named = [column for column in header if _plain(column) == role]
    return named or [column for column in header if _plain(column) in USUAL[role]]


def split_column_of(header: Sequence[str]) -> str | None:
    """The one column that is called as if it said the split of each row."""
    found = [column for column in header if _plain(column) in SPLIT_COLUMNS]
    return found[0] if len(found) == 1 else None


def split_named(value: object) -> SplitName | None:
    """The split that a cell names."""
    return SPLIT_OF.get(value.strip().casefold()) if isinstance(value, str) else None


def are_names(header: Sequence[str]) -> bool:
    """Whether any of these is known to name a column; if none is, they may be a row's cells."""
    known = {name for names in USUAL.values() for name in names} | {*SPLIT_COLUMNS}
    return any(_plain(column) in known for column in header)


def _plain(column: str) -> str:
    return column.strip().casefold().replace(" ", "_").replace("-", "_")


def _ambiguous(role: Role, fitting: Sequence[str]) -> InvalidDatasetError:
    names = ", ".join(repr(column[:200]) for column in fitting[:8])
    return InvalidDatasetError(
        f"No column is called {role!r}, and several could be it: {names}.",
        field=f"dataset.columns.{role}",
        remedy="Name the columns that the job shall read.",
    )
