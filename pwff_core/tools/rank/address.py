"""Where the ranking model is and which key opens it. The key is in the environment and goes to its server alone.

It is no flag and no setting, is written to no file, and whatever the server says passes `Server.clean` before a person
or a file sees it: a server may echo the key in an error.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from pwff_core.errors import ConfigError

KEY_VARIABLE, SERVER_VARIABLE = "OPENAI_API_KEY", "OPENAI_BASE_URL"
OPENAI = "https://api.openai.com/v1"
HIDDEN = "[key]"
_LONGEST_WORDS = 200  # characters of a server's own words in a sentence
_TELLING = 8  # so many characters of a key in a row would tell something about it
_LOOKS_LIKE_A_KEY = re.compile(r"\bsk-[\w*.-]+")


class Server(NamedTuple):
    """A checked address, and the key, which its repr does not show."""

    url: str
    key: str

    def __repr__(self) -> str:
        return f"Server({self.origin!r}, {'with' if self.key else 'without'} a key)"

    @property
    def origin(self) -> str:
        """Scheme, host and port: all of the address that is shown or written; a path may hold a token."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def in_the_open_here(self) -> bool:
        """Plain http to this computer."""
        parts = urlsplit(self.url)
        return parts.scheme == "http" and _is_here(parts.hostname or "")

    def clean(self, words: object) -> str:
        """What a server said, as one short line of printable characters that tells nothing of the key."""
        text = "".join(sign if sign.isprintable() else " " for sign in str(words))
        text = _LOOKS_LIKE_A_KEY.sub(HIDDEN, text.replace(self.key, HIDDEN) if self.key else text)
        if any(self.key[at : at + _TELLING] in text for at in range(len(self.key) - _TELLING + 1)):
            return "(left out: it holds a part of the key)"
        text = " ".join(text.split())
        return text if len(text) <= _LONGEST_WORDS else text[: _LONGEST_WORDS - 1] + "…"


def server_of(address: str | None, environment: Mapping[str, str]) -> Server:
    """The server that is meant: an address, else the environment's, else OpenAI's. ConfigError if it cannot be used.

    Refused: addresses that are none or carry credentials, a key over plain http to another computer, and OpenAI
    without a key.
    """
    url = (address or environment.get(SERVER_VARIABLE) or OPENAI).strip().rstrip("/")
    name = "--server" if address else f"${SERVER_VARIABLE}"
    parts = _parts(url, name)
    key = environment.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and all("!" <= sign <= "~" for sign in key)):
        raise ConfigError(f"${KEY_VARIABLE} holds a character that no key has (a blank, a line break); set it anew.")
    if key and parts.scheme == "http" and not _is_here(parts.hostname or ""):
        raise ConfigError(
            f"{name} is plain http to {parts.hostname}, and ${KEY_VARIABLE} would cross the network for all to read; "
            f"use https, or unset ${KEY_VARIABLE} if that server needs no key."
        )
    if not key and parts.hostname == urlsplit(OPENAI).hostname:
        raise ConfigError(
            f"${KEY_VARIABLE} is not set, and {parts.hostname} needs a key. Set it in the environment, or name a "
            "server of your own with --server, such as http://localhost:8000/v1."
        )
    return Server(url, key)


def _parts(url: str, name: str) -> SplitResult:
    """The parts of an address. The sentence for one that cannot be used never repeats it: it may hold a password."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ConfigError(f"{name} is no address; give one such as https://host/v1 or http://localhost:8000/v1.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            f"{name} has a name, a password or a query in it; give scheme, host, port and path alone, and put the key "
            f"into ${KEY_VARIABLE}."
        )
    return parts


def _is_here(host: str) -> bool:
    """Whether a host is this computer by its name alone, without asking anybody."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
