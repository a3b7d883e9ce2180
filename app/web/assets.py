"""The page's own files: kept for good by who asks for them by the URLs that the page has.

Such a URL, which rendering.py makes, is another one whenever its file changes.
"""

from fastapi import Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

from app.web.rendering import asset

FOR_GOOD = "public, max-age=31536000, immutable"


class Assets(StaticFiles):
    async def get_response(self, path: str, scope: Scope) -> Response:
        answer = await super().get_response(path, scope)
        # Of another release's URL this is not the content.
        if scope["query_string"].decode("latin-1") == asset(path).partition("?")[2]:
            answer.headers["Cache-Control"] = FOR_GOOD
        return answer
