"""Material of the fuzz tests: texts that often break programs, values of every kind, and small damage."""

from __future__ import annotations

from hypothesis import strategies as st

NASTY = (
    "", " ", "../../etc/passwd", "/etc/passwd", "\0", "a\0b", "\x1b[31m", "\ud800", "x" * 10_000, "=cmd()", "'; DROP--",
    "<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "$x^2$", "%s%n{0}{{}}", "${HOME}", "`id`", "none",
    "nan", "inf", "-inf", "1e999", "-0", "0x10", "1_000", "９", "true", "null", "demo", "pwff", "upload:x.csv",
    "\u202e",
)  # fmt: skip
texts = st.one_of(st.sampled_from(NASTY), st.text(max_size=40))
numbers = st.one_of(
    st.integers(), st.integers(-3, 300), st.floats(), st.sampled_from([10**400, -(10**400), 2**31, 2**63, 1e-320])
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=8,
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """The bytes with a few of them changed, left out, repeated or added."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, len(content)))
        length = draw(st.one_of(st.integers(0, 4), st.integers(0, max(1, len(content)))))
        match draw(st.sampled_from(("flip", "cut", "repeat", "insert", "swap"))):
            case "flip" if place < len(content):
                content[place] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[place : place + length]
            case "repeat" if len(content) < 4 * len(whole) + 100:
                content[place:place] = content[place : place + length] * draw(st.integers(1, 3))
            case "swap":
                content[place : place + 4] = draw(
                    st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"9999"])
                )
            case _:
                content[place:place] = draw(st.binary(max_size=8))
    return bytes(content)


def is_a_sentence(text: str, most: int = 4_000) -> bool:
    """Whether a message is for people: not too short or long, with an end, and no traceback."""
    return 10 < len(text) < most and text.rstrip()[-1] in ".?)" and "Traceback" not in text
