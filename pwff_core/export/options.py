"""What may be exported: which files, in which formats and size. Checked here, with sentences."""

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


class ExportOptions(NamedTuple):
    """What an export holds, and how."""

    content: Content
    formats: tuple[Format, ...]
    size: SizeId = "ieee-1"
    figures: tuple[str, ...] | None = None  # None: all that have numbers

    @property
    def picture_formats(self) -> tuple[FigureFormat, ...]:
        """Formats of figures that a browser draws."""
        return tuple(name for name in CHROME_FORMATS if name in self.formats)

    @property
    def table_formats(self) -> tuple[TableFormat, ...]:
        """Formats of tables."""
        return tuple(name for name in TABLE_FORMATS if name in self.formats)


def parse_options(
    content: str, formats: Iterable[str] | None = None, size: str | None = None, figures: Iterable[str] | None = None
) -> ExportOptions:
    """The options that these words mean; what is None takes the content's default. ConfigError names a wrong word."""
    content_id = next(name for name in get_args(Content) if name == content)
    if content_id == "tables" and (size is not None or figures is not None):
        raise ConfigError("--size and --figures are of figures; add --as figures, all or zip.")
    format_ids = _DEFAULTS[content_id] if formats is None else _parse_formats(content_id, tuple(formats))
    sizes: tuple[SizeId, ...] = tuple(PRESETS)
    size_id = next((name for name in sizes if name == (size or sizes[0])), None)
    if size_id is None:
        raise ConfigError(f"--size: {size!r} is not one of {', '.join(sizes)}.")
    return ExportOptions(content_id, format_ids, size_id, None if figures is None else tuple(figures))


def _parse_formats(content: Content, words: tuple[str, ...]) -> tuple[Format, ...]:
    allowed = {"tables": TABLE_FORMATS, "figures": FIGURE_FORMATS}.get(content, _DEFAULTS["all"])
    for word in words:
        if word not in allowed:
            elsewhere = "; --as all takes it." if word in _DEFAULTS["all"] else "."
            raise ConfigError(f"--formats: {word!r} is not one of {', '.join(allowed)}{elsewhere}")
    return tuple(name for name in _DEFAULTS["all"] if name in words)


def choose_figures(names: Collection[str] | None, drawable: Collection[str], existing: Collection[str]) -> list[str]:
    """The drawable figures of these names, in their own order; all of them by default.

    ConfigError for a name that is not among the `existing` figures, or not among the `drawable` ones.
    """
    for name in names or ():
        if name not in existing:
            near = difflib.get_close_matches(name, existing, n=1)
            guess = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"There is no figure {name[:40]!r}; there are {', '.join(existing)}.{guess}")
        if name not in drawable:
            has = f"it has {', '.join(drawable)}" if drawable else "it has none of any figure"
            raise ConfigError(f"This run has no numbers for the figure {name!r}; {has}.")
    return [name for name in drawable if names is None or name in names]
