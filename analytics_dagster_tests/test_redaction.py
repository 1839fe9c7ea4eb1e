"""What redaction promises: no spelling of a secret passes, and nothing else changes."""

from __future__ import annotations

import html
import json
import logging
import re
from collections.abc import Callable
from functools import partial
from urllib.parse import quote, quote_plus

import pytest

from analytics_dagster.redaction import MASK, Redactor, redacted_logs

LOGGER = "urllib3.connectionpool"
SECRETS = {
    "plain": "s3cr3t-key",
    "signs": "a+b/c=%d",
    "blank": "two words",
    "quotes": """a"b'c\\d""",
    "regular expression": "^(.*)[a-z]+$|\\",
    "umlaut": "schlüssel€",
    "hex": "100%2Bsure%",
}


def lower_hex(secret: str, count: int = 0) -> str:
    encoded = quote(secret, safe="")
    return re.sub("%[0-9A-F]{2}", lambda hit: hit[0].lower(), encoded, count=count)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a path": quote,
    "in a query": quote_plus,
    "with every sign encoded": partial(quote, safe=""),
    "with one sign encoded": partial(quote, safe="+/=&;@:!$'()*,[]~ \"\\^|üß€"),
    "in lower case": lower_hex,
    "in mixed case": partial(lower_hex, count=1),
    "in a URL in a URL": lambda secret: quote(quote(secret, safe=""), safe=""),
    "in a query in a query": lambda secret: quote_plus(quote_plus(secret)),
    "in HTML": html.escape,
    "in HTML by number": lambda secret: "".join(
        f"&#{ord(c):03};" if c in "+/&" else c for c in secret
    ),
    "in HTML by name": lambda secret: secret.replace("+", "&plus;").replace("=", "&equals;"),
    "in JSON in JSON": lambda secret: json.dumps(json.dumps(secret)[1:-1])[1:-1],
    "in JSON": lambda secret: json.dumps(secret)[1:-1],
    "in JSON as it is": lambda secret: json.dumps(secret, ensure_ascii=False)[1:-1],
    "in the JSON of PHP": lambda secret: json.dumps(secret)[1:-1].replace("/", r"\/"),
    "in the JSON of .NET": lambda secret: "".join(
        f"\\u{ord(c):04X}" if c in "\"&'+<>`" or not c.isascii() else json.dumps(c)[1:-1]
        for c in secret
    ),
}
every_secret = pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
every_spelling = pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)


@every_secret
@every_spelling
def test_no_spelling_of_a_secret_passes(spell: Callable[[str], str], secret: str) -> None:
    """In a text and in a body, what stands around the secret stays."""
    redactor = Redactor(secret)
    text = f"«{spell(secret)}» and {{{spell(secret)}{spell(secret)}}}"
    masked = f"«{MASK}» and {{{MASK}{MASK}}}"
    assert redactor.text(text) == masked
    assert redactor.body(text.encode()) == masked.encode()


@every_secret
def test_what_is_no_secret_stays_as_it_is(secret: str) -> None:
    """Even when it looks like a part of it."""
    text = f"{secret[:-1]} {secret[1:]} a+b c=% %2B aXb/c=%"
    assert Redactor(secret).text(text) == text
    assert Redactor(secret).body(text.encode()) == text.encode()


def test_a_secret_that_begins_with_another_is_masked_whole() -> None:
    """Each of several secrets is, wherever it stands alone."""
    redactor = Redactor("key", "key-of-mine")
    assert redactor.text("key-of-mine, key") == f"{MASK}, {MASK}"
    assert redactor.body(b"one key") == f"one {MASK}".encode()


def test_bytes_that_are_no_text_pass() -> None:
    """A body in no known encoding is redacted all the same."""
    assert Redactor("key").body(b"\xff\x00key\xfe") == b"\xff\x00***\xfe"


# Logs


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


@every_secret
def test_a_log_is_redacted_before_a_handler_sees_it(
    secret: str, log: pytest.LogCaptureFixture
) -> None:
    """In the message as well as in its arguments; other loggers speak freely."""
    with redacted_logs(Redactor(secret), LOGGER):
        logging.getLogger(LOGGER).debug(f"{secret.replace('%', '%%')}: %s %d", quote(secret), 1)
        logging.getLogger("other").debug("%s", secret)
    redacted, other = log.records
    assert (redacted.getMessage(), redacted.args) == (f"{MASK}: {MASK} 1", None)
    assert other.getMessage() == secret


def test_an_exception_in_a_log_is_redacted(log: pytest.LogCaptureFixture) -> None:
    """A library may log the exception that quotes the URL; a handler may keep the object."""
    with redacted_logs(Redactor("a+b/c=%d"), LOGGER):
        try:
            int("a%2Bb%2Fc%3D%25d")
        except ValueError:
            logging.getLogger(LOGGER).exception("failed")
    assert "a%2Bb" not in log.text
    assert "a%2Bb" not in repr(log.records[0].exc_info)


def test_two_apis_at_once_hide_both_keys(log: pytest.LogCaptureFixture) -> None:
    """And the end of one is not the end of the other, while the last one leaves no trace."""
    logger, before = logging.getLogger(LOGGER), list(logging.getLogger(LOGGER).filters)
    with redacted_logs(Redactor("first"), LOGGER):
        with redacted_logs(Redactor("second"), LOGGER):
            logger.debug("first second")
        logger.debug("first second")
    logger.debug("first second")
    said = [record.getMessage() for record in log.records]
    assert said == ["*** ***", "*** second", "first second"]
    assert logger.filters == before


def test_a_block_that_fails_is_closed_too() -> None:
    """The log is as it was, also after an error."""
    before = list(logging.getLogger(LOGGER).filters)
    with pytest.raises(KeyError), redacted_logs(Redactor("key"), LOGGER):
        raise KeyError
    assert logging.getLogger(LOGGER).filters == before
