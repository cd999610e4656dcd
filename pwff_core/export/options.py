"""What may be asked for: which files, in which formats and size. Checked here, with sentences."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple, get_args

from pwff_core.errors import ConfigError
from pwff_core.figures.printing import PRESETS, SizeId

FigureFormat = Literal["png", "svg", "pdf", "html"]
TableFormat = Literal["csv", "json", "parquet"]
Format = FigureFormat | TableFormat
Content = Literal["tables", "figures", "all", "zip"]
FIGURE_FORMATS: tuple[FigureFormat, ...] = get_args(FigureFormat)
TABLE_FORMATS: tuple[TableFormat, ...] = get_args(TableFormat)
CHROME_FORMATS: tuple[FigureFormat, ...] = ("png", "svg", "pdf")  # those that take a browser to draw
_DEFAULTS: dict[Content, tuple[Format, ...]] = {
    "tables": ("csv",),
    "figures": FIGURE_FORMATS,
    "all": (*FIGURE_FORMATS, *TABLE_FORMATS),
    "zip": (*FIGURE_FORMATS, *TABLE_FORMATS),
}


class Order(NamedTuple):
    """What somebody wants to take home."""

    content: Content
    formats: tuple[Format, ...]
    size: SizeId = "ieee-1"
    figures: tuple[str, ...] | None = None  # None: all that have numbers

    @property
    def drawn(self) -> tuple[FigureFormat, ...]:
        """Formats of figures that a browser draws."""
        return tuple(one for one in CHROME_FORMATS if one in self.formats)

    @property
    def tables(self) -> tuple[TableFormat, ...]:
        """Formats of tables."""
        return tuple(one for one in TABLE_FORMATS if one in self.formats)


def ordered(
    content: str, formats: Iterable[str] | None = None, size: str | None = None, figures: Iterable[str] | None = None
) -> Order:
    """The order that the words mean; ConfigError if they mean none. None is what is usual for the content."""
    wanted = next(known for known in get_args(Content) if known == content)
    if wanted == "tables" and (size is not None or figures is not None):
        raise ConfigError("--size and --figures are of figures; add --as figures, all or zip.")
    chosen = _DEFAULTS[wanted] if formats is None else _formats(wanted, tuple(formats))
    sizes: tuple[SizeId, ...] = tuple(PRESETS)
    found = next((known for known in sizes if known == (size or sizes[0])), None)
    if found is None:
        raise ConfigError(f"--size: {size!r} is not one of {', '.join(sizes)}.")
    return Order(wanted, chosen, found, None if figures is None else tuple(figures))


def _formats(content: Content, words: tuple[str, ...]) -> tuple[Format, ...]:
    allowed = {"tables": TABLE_FORMATS, "figures": FIGURE_FORMATS}.get(content, _DEFAULTS["all"])
    for word in words:
        if word not in allowed:
            elsewhere = "; --as all takes it." if word in _DEFAULTS["all"] else "."
            raise ConfigError(f"--formats: {word!r} is not one of {', '.join(allowed)}{elsewhere}")
    return tuple(one for one in _DEFAULTS["all"] if one in words)


def checked_figures(wanted: Collection[str] | None, drawable: Collection[str], known: Collection[str]) -> list[str]:
    """The names of the figures to draw, all that can be by default. ConfigError for a name that cannot."""
    for name in wanted or ():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"There is no figure {name[:40]!r}; there are {', '.join(known)}.{guess}")
        if name not in drawable:
            has = f"it has {', '.join(drawable)}" if drawable else "it has none of any figure"
            raise ConfigError(f"This run has no numbers for the figure {name!r}; {has}.")
    return [name for name in drawable if wanted is None or name in wanted]
