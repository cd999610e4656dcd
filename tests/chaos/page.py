"""The words that a page shows under a run's name, without a browser.

python -m tests.chaos.page STORE RUN    answers each line of input with a line
"""

from __future__ import annotations

import sys
from pathlib import Path

from pages.parts.words import status_words
from pwff_core.errors import StoreError
from pwff_core.figures.frames import planned_stages, spans_of
from pwff_core.runs.store import Store


def page_words(page: Store, run_id: str) -> str:
    """The run's state and the sentence beside it; the store's own sentence where it cannot be read."""
    try:
        row, records = page.run(run_id), [record for _, record in page.rounds(run_id)]
        spans = spans_of(planned_stages(row.config, row.rounds_total, records), records)
        return f"{row.status.value}: {status_words(row, records, spans, page.pending(run_id))}"
    except StoreError as error:
        return f"error: {error}"


def main(store_path: Path, run_id: str) -> None:
    """The process: its clock may differ from the test's."""
    page = Store(store_path, readonly=True)
    for _ in sys.stdin:
        print(page_words(page, run_id), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
