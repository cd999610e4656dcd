"""What a person takes home: tables, figures, one zip with everything, or a client's model for other programs.

orders: what may be asked for · runs, comparisons: these as parcels · parcel: figures, tables and texts, and how they
become files · tables, texts, web: their contents · chrome, printer: pictures, drawn by a browser in a process of its
own · files: whole or not there · preparation: all of it in a process, for the pages · model: one client's model
"""

from __future__ import annotations

from pwff_core.export.build import RUN_FIGURES, export_run, run_parcel
from pwff_core.export.bundle import WEB_PAGE, Delivery, Parcel, file_bytes, write
from pwff_core.export.chrome import find_chrome, no_chrome_words
from pwff_core.export.comparisons import comparison_parcel
from pwff_core.export.contents import config_toml, config_words
from pwff_core.export.job import Look, Preparation
from pwff_core.export.options import CHROME_FORMATS, FIGURE_FORMATS, TABLE_FORMATS, Format, Order, TableFormat, ordered
from pwff_core.export.tables import clients_table, rounds_table, table_bytes
from pwff_core.export.web import web_page

__all__ = [
    "CHROME_FORMATS",
    "FIGURE_FORMATS",
    "RUN_FIGURES",
    "TABLE_FORMATS",
    "WEB_PAGE",
    "Delivery",
    "Format",
    "Look",
    "Order",
    "Parcel",
    "Preparation",
    "TableFormat",
    "clients_table",
    "comparison_parcel",
    "config_toml",
    "config_words",
    "export_run",
    "file_bytes",
    "find_chrome",
    "no_chrome_words",
    "ordered",
    "rounds_table",
    "run_parcel",
    "table_bytes",
    "web_page",
    "write",
]
