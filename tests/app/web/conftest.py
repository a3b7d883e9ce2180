"""A browser's place: the page behind a client that keeps cookies and says where it comes from."""

import pytest
from fastapi.testclient import TestClient

from app.projects.service import NewKey

HERE = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html"}


@pytest.fixture
def visitor(anonymous: TestClient) -> TestClient:
    """Whoever opens the page, not signed in."""
    anonymous.headers.update(HERE)
    return anonymous


@pytest.fixture
def user(visitor: TestClient, key: NewKey) -> TestClient:
    """Signed in, with a key that may do everything."""
    return sign_in(visitor, key)


def sign_in(visitor: TestClient, key: NewKey | str) -> TestClient:
    secret = key if isinstance(key, str) else key.key
    answer = visitor.post("/ui/sign-in", data={"key": secret}, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    return visitor
