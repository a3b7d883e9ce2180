"""A log keeps the beginning and the end, whatever is printed and however fast."""

from worker.joblog import HEAD, LINE_CUT, MAX_LINE, TAIL, JobLog


def test_what_is_printed_comes_back() -> None:
    log = JobLog()
    log.feed(b"one\ntw")
    log.feed(b"o\n")

    assert log.end() == b"one\ntwo\n"


def test_what_was_taken_is_not_given_again() -> None:
    log = JobLog()
    log.feed(b"one\n")

    assert log.take() == b"one\n"
    log.feed(b"two\n")
    assert log.end() == b"two\n"


def test_a_line_is_cut_at_its_limit_however_it_is_cut_into_pieces() -> None:
    log = JobLog()
    for _ in range(3 * MAX_LINE):
        log.feed(b"x")
    log.feed(b"\nafter\n")

    assert log.end() == MAX_LINE * b"x" + LINE_CUT + b"\nafter\n"


def test_a_line_of_just_the_limit_is_whole() -> None:
    log = JobLog()
    log.feed(MAX_LINE * b"x" + b"\n")

    assert log.end() == MAX_LINE * b"x" + b"\n"


def test_a_long_log_loses_its_middle_and_says_how_much() -> None:
    log = JobLog()
    line = 99 * b"x" + b"\n"
    lines = 4 * (HEAD + TAIL) // len(line)
    for _ in range(lines):
        log.feed(line)
    head = log.take()
    rest = log.end()

    assert len(head) == HEAD
    gap, _, tail = rest.partition(b" bytes left out]\n")
    assert tail == (lines * line)[-TAIL:]
    assert int(gap.rpartition(b"[")[2]) == lines * len(line) - HEAD - TAIL


def test_the_last_lines_can_be_seen_after_they_were_taken() -> None:
    log = JobLog()
    log.feed(b"why it crashed\n")
    log.take()

    assert log.recent() == "why it crashed\n"
