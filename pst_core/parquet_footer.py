"""How much a Parquet footer describes, counted before a parser makes objects of it.

A byte of Thrift's compact protocol may become hundreds in memory; what it means is not read here.
"""

PARTS_LIMIT = 100_000  # columns, row groups, chunks of a column and what stands in them
MAX_DEPTH = 16  # of structs and lists within each other; Parquet has six
VARINT_BITS = 63
BOOLEANS, VARINTS, LISTS = (1, 2), (4, 5, 6), (9, 10)
BYTE, DOUBLE, BINARY, STRUCT = 3, 7, 8, 12
LONG = 15  # items or more: their number follows


def has_too_many_parts(footer: bytes) -> bool:
    """Whether it describes more than a parser should be given.

    Raises:
        ValueError: It is not the compact protocol, or nests deeper than any footer.
    """
    walk = _Walk(footer)
    try:
        walk.struct(1)
    except IndexError as error:
        raise ValueError("it ends too early") from error
    except OverflowError:
        return True
    return False


class _Walk:
    """One pass over the bytes, which skips every value and counts."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._parts = data, 0, 0

    def struct(self, depth: int) -> None:
        while header := self._byte():
            if header < 1 << 4:  # else its number is told by the difference to the last
                self._varint()
            self._skip(header & 15, depth)

    def _skip(self, kind: int, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ValueError("it nests too deep")
        if kind in VARINTS:
            self._varint()
        elif kind == BINARY:
            length = self._varint()  # which moves on itself
            self._at += length
        elif kind in LISTS:
            self._list(depth + 1)
        elif kind == STRUCT:
            self.struct(depth + 1)
        elif kind == BYTE:
            self._at += 1
        elif kind == DOUBLE:
            self._at += 8
        elif kind not in BOOLEANS:  # whose value is their kind
            raise ValueError("it holds what no footer does")

    def _list(self, depth: int) -> None:
        header = self._byte()
        kind, size = header & 15, header >> 4
        if size == LONG:
            size = self._varint()
        if size > len(self._data):
            raise ValueError("it ends too early")
        if kind in BOOLEANS:
            self._at += size
            return
        if kind in {BINARY, STRUCT, *LISTS}:
            self._parts += size
            if self._parts > PARTS_LIMIT:
                raise OverflowError
        for _ in range(size):
            self._skip(kind, depth)

    def _byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 1 << 7:
                return value
            shift += 7
            if shift > VARINT_BITS:
                raise ValueError("it has a number too large")
