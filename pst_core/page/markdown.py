"""Pieces of GitHub-flavoured Markdown and numbers for people; text of others stays text.

What a page says is not decided here.
"""

from collections.abc import Iterable, Sequence

_SPECIAL = frozenset("\\`*_[]<>|~$&#")
_ALIGNMENTS = {"l": ":--", "r": "--:"}
_MANY = 10_000
_SI_STEP = 1000


def code(text: str) -> str:
    """Text of others, such as a name, in type of fixed width and without any effect."""
    if not text:
        return "(empty)"
    # Of a code span's own signs only these could end it, or the cell of a table that it is in.
    if text.isprintable() and not set("`|\\") & set(text):
        return f"`{text}`"
    return f"<code>{plain(text)}</code>"


def plain(text: str) -> str:
    """Text of others in a sentence: signs that mean something become entities, which do not."""
    return "".join(
        f"&#{ord(char)};" if char in _SPECIAL else char if char.isprintable() else " "
        for char in text
    )


def codes(texts: Iterable[str]) -> str:
    return ", ".join(code(text) for text in texts) or "none"


def table(head: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> str:
    """A table; `align` has an l or an r for each column."""
    if len(align) != len(head):
        raise ValueError(f"{len(head)} columns need as many letters of alignment, not {align!r}")
    lines = [head, [_ALIGNMENTS[letter] for letter in align], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def folded(summary: str, content: str) -> str:
    """Content that is shown on a click."""
    # Without the empty lines GitHub would take the content for HTML.
    return f"<details>\n<summary>{summary}</summary>\n\n{content}\n\n</details>"


def number(value: float) -> str:
    """Four significant digits, and whole numbers from ten thousand on."""
    return f"{value:,.0f}" if abs(value) >= _MANY else f"{value:.4g}"


def signed(value: float) -> str:
    return f"{'+' if value > 0 else ''}{number(value)}"


def percent(share: float) -> str:
    return f"{share:.4%}".replace("%", " %")


def size(count: int) -> str:
    """Bytes, and the same in the unit that suits them."""
    scaled, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if scaled < _SI_STEP:
            break
        scaled, unit = scaled / _SI_STEP, larger
    return f"{count:,} bytes" + ("" if unit == "bytes" else f" ({scaled:.3g} {unit})")
