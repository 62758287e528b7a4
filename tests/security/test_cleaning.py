"""One `clean` for every text from outside."""

import sys
import unicodedata

from rotation.clients.ledger_rows import pause_from_text, row_from_text, row_to_text
from rotation.model import LedgerRow, clean, trace

UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Controls, format characters (bidirectional, zero-width, tags), surrogates, line separators."""


def test_no_character_that_is_unseen_or_moves_others_is_left() -> None:
    """Every code point of Unicode, by the category that this Python knows of it."""
    unsafe = [c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in UNSAFE]

    assert len(unsafe) > 2000
    assert {" "} == {clean(c) for c in unsafe}


def test_what_is_cleaned_can_be_written_anywhere() -> None:
    """JSON may hold half a surrogate pair, which no log, page or terminal can encode."""
    assert b"a b" == clean("a\ud800b").encode()


def test_letters_stay() -> None:
    """Names in any script are still readable."""
    for text in ("Zürich", "東京", "Ελλάδα", "नमस्ते", "مرحبا", "🙂"):
        assert text == clean(text)


def test_an_exception_is_logged_by_our_frames_and_cleaned_words() -> None:
    """Its text may be a peer's."""
    try:
        raise ValueError("a\r\nb\x1b")
    except ValueError as error:
        first, *frames = trace(error).splitlines()

    assert "ValueError: a  b " == first
    assert any("test_cleaning.py" in frame for frame in frames)


def test_what_a_ledger_holds_is_cleaned_as_well() -> None:
    """Who can write rows could otherwise put words with escapes into telemetry and answers."""
    row = LedgerRow(
        "a-gateway", claim_id="\x1b[2J\u202eclaim", operation_url="https://management.azure.com/x"
    )

    read = row_from_text("a-gateway", "1", row_to_text(row))
    pause = pause_from_text('{"at": "2026-01-01T00:00:00+00:00", "reason": "free\\u001bze\\ud800"}')

    assert (" [2J claim", row.operation_url) == (read.claim_id, read.operation_url)
    assert "free ze " == pause.reason
