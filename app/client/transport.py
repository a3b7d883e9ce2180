"""Requests and answers: the key, retries, problems, pages. What they mean is told elsewhere."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from app.client.errors import ClientError, RefusedError, UnexpectedAnswerError, lost, refused
from app.client.inputs import check_sendable, checked_key, checked_url
from app.client.retries import Outage, Patience

Answer = TypeVar("Answer", bound=BaseModel)
Query = Mapping[str, Any]
Body = Mapping[str, Any]

# Of each wait and not of the whole; longer than the service lets a request wait.
TIMEOUT = httpx.Timeout(30.0, read=90.0)
IDEMPOTENCY_KEY = "Idempotency-Key"
# What may be sent again without knowing what became of it.
REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
PAGE = 1000


class Transport:
    """One service and one key."""

    def __init__(self, url: str, key: str, patience: Patience) -> None:
        self.url = checked_url(url)
        self._patience = patience
        self._reached = False
        headers = {"User-Agent": f"pst-client/{version('pst-service')}"}
        if key:
            headers["Authorization"] = f"Bearer {checked_key(key)}"
        # Remote storage is redirected to; httpx takes the key along to no other host.
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=TIMEOUT, follow_redirects=True
        )

    def close(self) -> None:
        self._http.close()

    def outage(self) -> Outage:
        """For a call that begins."""
        return Outage(self._patience, was_reached=self._reached)

    def absorb(self, outage: Outage, error: ClientError) -> None:
        """Wait before another try, or raise the error."""
        outage.absorb(error, reached=self._reached)

    def send(
        self,
        method: str,
        path: str,
        *,
        body: Body | Callable[[], Iterator[bytes]] | None = None,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> httpx.Response:
        """The answer, after as many tries as it takes.

        Args:
            method: Of HTTP.
            path: Below the service's address.
            body: JSON, or what makes the bytes, once for each try.
            query: Parameters.
            headers: More of them.
            repeatable: Whether a POST may be sent again when it is not known what became of it.

        Raises:
            ClientError: Of the last try; or what is given cannot be sent.
        """
        if body is not None and not callable(body):
            check_sendable(body)
        check_sendable(query or {})
        outage = self.outage()
        may_repeat = repeatable or method in REPEATABLE or IDEMPOTENCY_KEY in (headers or {})
        while True:
            content: dict[str, Any] = {"content": body()} if callable(body) else {"json": body}
            content |= {"params": query, "headers": headers}
            try:
                with self.stream(method, path, **content) as answer:
                    answer.read()
                    return answer
            except ClientError as error:
                gone = isinstance(error, RefusedError) and error.status == HTTPStatus.NOT_FOUND
                if gone and method == "DELETE" and outage.tries:
                    # An earlier try was heard, whose answer was lost.
                    return httpx.Response(HTTPStatus.NO_CONTENT)
                if not (may_repeat or error.did_nothing):
                    raise
                self.absorb(outage, error)

    @contextmanager
    def stream(self, method: str, path: str, **content: Any) -> Iterator[httpx.Response]:
        """An answer whose body is still to come; one try.

        Raises:
            ClientError: There is none, or it is a problem, or it breaks off.
        """
        try:
            with self._http.stream(method, path, **content) as answer:
                self._reached = True
                if answer.is_error:
                    answer.read()
                    raise refused(answer)
                yield answer
        except httpx.TransportError as error:
            raise lost(error, self.url) from error
        except (httpx.InvalidURL, httpx.TooManyRedirects) as error:
            raise UnexpectedAnswerError(str(error)) from error

    def get(self, path: str, model: type[Answer], query: Query | None = None) -> Answer:
        return parse(model, self.send("GET", path, query=query))

    def post(
        self,
        path: str,
        model: type[Answer],
        body: Body | None = None,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = False,
    ) -> Answer:
        answer = self.send(
            "POST", path, body=body, query=query, headers=headers, repeatable=repeatable
        )
        return parse(model, answer)

    def put(self, path: str, model: type[Answer], body: Body) -> Answer:
        return parse(model, self.send("PUT", path, body=body))

    def delete(self, path: str) -> None:
        self.send("DELETE", path)

    def pages(
        self, path: str, model: type[Answer], query: Query | None = None, *, most: int | None = None
    ) -> Iterator[Answer]:
        """All items of a list, page after page; or the first so many."""
        cursor: dict[str, Any] = {}
        left = most
        while left is None or left > 0:
            limit = PAGE if left is None else min(PAGE, left)
            answer = self.send("GET", path, query={**(query or {}), **cursor, "limit": limit})
            page = parse(_Page, answer)
            for item in page.data:
                yield checked(model, item)
            if page.next_cursor is None:
                return
            left = None if left is None else left - len(page.data)
            cursor = {"cursor": page.next_cursor}


class _Page(BaseModel):
    data: list[Any]
    next_cursor: str | None = None


def parse(model: type[Answer], answer: httpx.Response) -> Answer:
    """What an answer says; what a later service tells besides is passed over."""
    try:
        return model.model_validate_json(answer.content, extra="ignore")
    except ValidationError as error:
        raise _not_understood(model, error) from error


def checked(model: type[Answer], value: object) -> Answer:
    """The same of what is read already."""
    try:
        return model.model_validate(value, extra="ignore")
    except ValidationError as error:
        raise _not_understood(model, error) from error


def once(key: str | None) -> dict[str, str]:
    """The header that lets a POST be sent again: under the caller's name for it, or a new one."""
    return {IDEMPOTENCY_KEY: key or str(uuid.uuid4())}


def _not_understood(model: type[BaseModel], error: ValidationError) -> UnexpectedAnswerError:
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "the body"
    return UnexpectedAnswerError(f"{model.__name__}, {where}: {first['msg']}")
