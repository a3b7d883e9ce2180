"""Which of several kinds of answers a request wants (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence

JSON, CSV, EVENT_STREAM = "application/json", "text/csv", "text/event-stream"


def preferred(accept: str, offered: Sequence[str]) -> str:
    """The media type to answer with.

    Args:
        accept: The request's header; empty where it has none.
        offered: What there is, the default first: it is taken among equals, and where the client
            wants nothing of it at all.
    """
    weights = dict(_weighted(part) for part in accept.lower().split(","))

    def weight(media_type: str) -> float:
        ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        return next((weights[each] for each in ranges if each in weights), 0.0)

    return max(offered, key=weight)


def _weighted(part: str) -> tuple[str, float]:
    media_range, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                # A weight is between 0 and 1; what is no number counts for nothing.
                return media_range, min(max(float(value), 0.0), 1.0)
            except ValueError:
                return media_range, 0.0
    return media_range, 1.0
