"""Text of users and files, as it is shown: on one line, and without what steers a terminal."""

from __future__ import annotations

import unicodedata

__all__ = ["first_line", "one_line", "visible"]

MAX_MESSAGE = 1000
_STEERING = {"Cc", "Cf", "Zl", "Zp", "Cs"}


def visible(text: str) -> str:
    """`text` with a mark for each character that steers a terminal (escape sequences, direction of text)."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(each) in _STEERING and each not in "\n\t" else each
        for each in text
    )


def one_line(message: str) -> str:
    """`message` as an error is printed: one line, of at most `MAX_MESSAGE` characters."""
    line = visible(" ".join(message.split()))
    return line if len(line) <= MAX_MESSAGE else f"{line[: MAX_MESSAGE // 2]} ... {line[-MAX_MESSAGE // 2 :]}"


def first_line(error: Exception) -> str:
    """The first line of another package's error; its type if it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
