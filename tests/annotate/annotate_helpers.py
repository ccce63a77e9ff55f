"""What the tests of `selfevo annotate` share: the command, rows, and an annotator that knows sums."""

import json
import re
from pathlib import Path

from typer.testing import CliRunner

from selfevo_jax.cli import app

KEY = "sk-of-these-tests"
SMALL = """
run_dir: none
model: {source: "builtin:stories"}
mesh: {data: 1}
data: {stories: {}}
sampling: {slots: 4, cache_length: 64, respond: {temperature: 0.8, max_new_tokens: 8}}
"""


def annotated(*words: object, fails: bool = False) -> str:
    """What the command says, on one line; or its error."""
    done = CliRunner().invoke(app, ["annotate", *map(str, words)])
    if fails:
        assert done.exception is not None
        return " ".join(str(done.exception).split())
    assert done.exception is None, done.exception
    return " ".join(done.output.split())


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def written(path: Path, rows) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def sums(path: Path, n: int, wrong: int = 3) -> Path:
    """Sums in two lines, each of so many with a wrong end."""
    ends = [i + 1 + (i % wrong == 0) for i in range(n)]
    rows = [
        {"id": f"r{i}", "prompt": f"What is {i} + 1?", "response": f"I add {i} and 1.\nIt is {end}."}
        for i, end in enumerate(ends)
    ]
    return written(path, rows)


def teacher(asks: str) -> str:
    """An annotator that knows sums."""
    number = int(re.search(r"What is (\d+) \+ 1", asks)[1])
    if asks.endswith("Give only the new answer."):
        return f"I add {number} and 1.\nIt is {number + 1}."
    if re.search(r"It is (\d+)", asks)[1] == str(number + 1):
        return f"Step 1: right, that is asked.\nStep 2: right, {number} + 1 = {number + 1}.\nVerdict: correct"
    return f"Step 1: right, that is asked.\nStep 2: wrong, {number} + 1 = {number + 1}.\nVerdict: incorrect"


def tokens(asks: str, said: str) -> tuple[int, int]:
    return len(asks) % 97 + 1, len(said) % 31 + 1


def answers_to(requests: Path, results: Path, skip: int = -1) -> Path:
    """What a batch's server writes: in another order, with one line that failed."""
    lines = []
    for at, asked in enumerate(rows_of(requests)):
        assert (asked["method"], asked["url"], asked["body"]["model"]) == ("POST", "/v1/chat/completions", "big")
        text = teacher(asked["body"]["messages"][-1]["content"])
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "big", "choices": [choice]}
        body["usage"] = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        answer = {"id": f"batch-{at}", "custom_id": asked["custom_id"], "error": None}
        response = {"status_code": 200, "request_id": "y", "body": body}
        if at == skip:
            response = {"status_code": 400, "request_id": "y", "body": {"error": {"message": "too odd"}}}
        lines.append(answer | {"response": response})
    return written(results, reversed(lines))
