"""The Clients page: what each client's model answers."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.e2e.conftest import ENGINE_MS, TINY, Visitor
from tests.support.accessibility import findings
from tests.support.browser import button, current, settle


def test_clients_answer_before_and_after_alignment(visit: Visitor) -> None:
    page = visit("clients")
    current(page).get_by_role("radio", name="Both").click()
    settle(page)
    current(page).get_by_role("textbox", name="Instruction").fill("How do I keep basil fresh?")
    button(page, "Ask").click()
    scores = current(page).get_by_text(re.compile(r"Helpfulness [+-]\d+\.\d+ · harmlessness [+-]\d+\.\d+ · weighted"))
    expect(scores).to_have_count(2 * int(TINY["clients"]), timeout=ENGINE_MS)
    expect(current(page).get_by_role("paragraph").filter(has_text="How do I keep basil fresh?")).to_be_visible()
    assert findings(page) == []
