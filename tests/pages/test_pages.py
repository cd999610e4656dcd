"""What holds for every page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import ROOT


@pytest.mark.parametrize(
    "page", ["app.py", "pages/clients.py", "pages/channel.py", "pages/compare.py", "pages/runs.py"]
)
def test_a_page_does_not_import_the_engine(page: str, tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        f"os.environ['PWFF_STORE'] = {str(tmp_path / 'runs.sqlite')!r}\n"
        "from streamlit.testing.v1 import AppTest\n"
        f"page = AppTest.from_file({str(ROOT / page)!r}, default_timeout=60).run()\n"
        "assert not page.exception, page.exception\n"
        "print(sorted({'torch', 'transformers', 'peft', 'trl', 'datasets'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"
