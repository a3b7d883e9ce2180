"""/docs works in a browser that reaches nothing but the service."""

import re

from fastapi.testclient import TestClient


def test_the_apis_pages_are_made_of_what_the_service_has(client: TestClient) -> None:
    page = client.get("/docs").raise_for_status().text

    needed = re.findall(r"""(?:src|href)=["']([^"']+)["']""", page)
    assert len(needed) >= 3
    for path in [*needed, "/openapi.json"]:
        assert path.startswith("/"), "no other host"
        client.get(path).raise_for_status()
    assert "url: '/openapi.json'" in page
