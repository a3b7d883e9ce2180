"""What the Hub's clients read; names and shapes are the protocol's."""

from typing import Literal

from pydantic import BaseModel


class Lfs(BaseModel):
    """Files that the Hub keeps outside of Git. Of these, clients compare the SHA-256."""

    oid: str
    """SHA-256."""
    size: int
    pointerSize: int = 134


class TreeEntry(BaseModel):
    type: Literal["file"] = "file"
    path: str
    size: int
    oid: str
    lfs: Lfs


class Sibling(BaseModel):
    rfilename: str
    size: int


class ModelInfo(BaseModel):
    id: str
    modelId: str
    sha: str
    """The commit."""
    private: bool = False
    gated: bool = False
    disabled: bool = False
    tags: list[str]
    pipeline_tag: str
    library_name: str
    createdAt: str
    lastModified: str
    siblings: list[Sibling]


class Ref(BaseModel):
    name: str
    ref: str
    targetCommit: str


class Refs(BaseModel):
    branches: list[Ref]
    converts: list[Ref] = []
    tags: list[Ref] = []
