"""A chat process without models: it answers by formula, or misbehaves on request.

    python -m tests.support.fake_chat_server RUN_ID --store PATH

Client k says what it was asked, with helpfulness k / 10 after alignment and 0 before; odd clients refuse.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


def answer(question: dict[str, Any], client: int) -> dict[str, Any]:
    helpful = client / 10 if question["when"] == "after" else 0.0
    text = "" if question["instruction"] == "say nothing" else f"{client} on {question['instruction']}"
    return {
        "client": client, "when": question["when"], "text": text, "helpfulness": helpful, "harmlessness": 1 - helpful,
        "reward": 0.5, "ended": True, "refused": client % 2 == 1,
        "cut_tokens": 7 if question["instruction"] == "much" else 0,
    }  # fmt: skip


def main() -> None:
    if "unloadable" in sys.argv:
        say({"error": "There are no models in this folder."})
        sys.exit(1)
    print("It starts. Nothing is wrong.", file=sys.stderr)
    say({"ready": True})
    for line in sys.stdin:
        question = json.loads(line)
        match question["instruction"]:
            case "die":
                print("Out of memory\nKilled", file=sys.stderr)
                sys.exit(9)
            case "sleep":
                time.sleep(60)
            case "leave":
                say({"answers": [answer(question, client) for client in question["clients"]]})
                sys.exit(0)
            case "who are you":
                say({"answers": [{**answer(question, 0), "text": str(os.getpid())}]})
            case "":
                say({"error": "The instruction is empty; type what the clients should answer."})
            case _:
                say({"answers": [answer(question, client) for client in question["clients"]]})


if __name__ == "__main__":
    main()
