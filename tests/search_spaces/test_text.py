"""Text of others cannot steer a terminal."""

from search_spaces.text import MAX_MESSAGE, first_line, one_line, visible


def test_escape_sequences_and_directions_become_marks():
    assert visible("a\x1b[31mb\u202ec\u2028d\ud800\n\te") == "a\ufffd[31mb\ufffdc\ufffdd\ufffd\n\te"
    assert visible("größer ≤ 20 日本") == "größer ≤ 20 日本"


def test_messages_are_one_line_of_bounded_length():
    assert one_line("a\nb\r\nc  d") == "a b c d"
    assert len(one_line("x" * 100_000)) < MAX_MESSAGE + 10


def test_of_another_packages_error_the_first_line_is_kept():
    assert first_line(ValueError("\n a\nb")) == "a"
    assert first_line(KeyError()) == "KeyError"
