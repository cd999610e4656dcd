"""The commands with their flags, and how their texts become a RunConfig.

`settings` makes a flag of every knob, so a new field of the config is a new flag by itself. `commands` has a dataclass
a command, which tyro reads.
"""

from __future__ import annotations

from pwff_core.cli.arguments import (
    EXPORTS,
    App,
    Command,
    Compare,
    Doctor,
    Export,
    Fork,
    Rank,
    Resume,
    Run,
    Runs,
)
from pwff_core.cli.config_flags import changes_of, config_of, ranking_config_of, unknown_flag

__all__ = [
    "EXPORTS",
    "App",
    "Command",
    "Compare",
    "Doctor",
    "Export",
    "Fork",
    "Rank",
    "Resume",
    "Run",
    "Runs",
    "changes_of",
    "config_of",
    "ranking_config_of",
    "unknown_flag",
]
