"""The parts of docs/ that are made from the code: ``python -m app.reference`` writes them."""

import json
from pathlib import Path

from app import problem_pages
from app.main import create_app
from app.settings import Settings

DOCS = Path(__file__).parents[1] / "docs"


def contents() -> dict[str, str]:
    """What each generated file in docs/ should hold, by its name."""
    # Nothing is connected to: the routes are there without any server.
    settings = Settings(database_url="postgresql://localhost/pst", broker_url="redis://localhost")
    openapi = create_app(settings).openapi()
    return {
        "openapi.json": json.dumps(openapi, indent=1, ensure_ascii=False) + "\n",
        "problems.md": problem_pages.markdown(),
    }


def main() -> None:
    for name, content in contents().items():
        (DOCS / name).write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
