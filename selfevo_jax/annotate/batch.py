"""Files of questions for a server's batch interface, and its files of answers.

The form is that of OpenAI's Batch API, which `vllm run-batch` takes too: a JSON object a line with `custom_id`,
`method`, `url` and `body`; answers have `custom_id` and `response: {status_code, body}`, or `error`, in any order.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from selfevo_jax.annotate.asked import split_key
from selfevo_jax.data.objects import objects_of
from selfevo_jax.errors import DataError, SelfevoError, first_line, shown
from selfevo_jax.judges import EndpointSection
from selfevo_jax.judges.asking import Failed
from selfevo_jax.judges.endpoint import Question, body_of, client, key_of, read_answer
from selfevo_jax.rounds.texts import Kept

URL = "/v1/chat/completions"
MOST = 50_000
"""Requests in a file of OpenAI's at most."""


def request_lines(asks: Sequence[tuple[EndpointSection, Question]]) -> bytes:
    """Questions as a file, a line each."""
    lines = [
        json.dumps({"custom_id": question.id, "method": "POST", "url": URL, "body": body_of(section, question)})
        for section, question in asks
    ]
    return "".join(f"{line}\n" for line in lines).encode("ascii")


@dataclass
class Results:
    """What became of a file of answers."""

    read: int = 0
    known: int = 0
    """Answers that were kept before."""
    lost: Counter[str] = field(default_factory=Counter)
    """Why there is no answer -> lines."""
    others: int = 0
    """Lines that answer no question of ours."""


def read_results(source: str | os.PathLike[str], section: EndpointSection, kept: Kept) -> Results:
    """Keeps the answers of a file. Raises DataError for a line that is no JSON object, by its number."""
    client()  # says how to install it
    from openai.types.chat import ChatCompletion

    key, found = key_of(section), Results()
    name, objects = objects_of(source)
    for line, fields in objects:
        id = fields.get("custom_id")
        if not isinstance(id, str):
            raise DataError(
                name, line, "custom_id", f"found {shown(id)}, expected text; name a file of a server's answers"
            )
        if split_key(id) is None:
            found.others += 1
        elif id in kept:
            found.known += 1
        else:
            try:
                answer = read_answer(id, ChatCompletion.construct(**_body(fields)), key)
            except Failed as failure:
                found.lost[str(failure)] += 1
                continue
            kept.append({**asdict(answer), "sample": 0})
            found.read += 1
    if not found.read + found.known + found.lost.total():
        raise SelfevoError(f"{name}: answers no question of this command; name the file that the server wrote")
    return found


def _body(fields: dict[str, Any]) -> dict[str, Any]:
    """The completion of a line. Raises Failed with what the server says where there is none."""
    response, error = fields.get("response"), fields.get("error")
    if error:
        raise Failed(_said(error))
    if not isinstance(response, dict):
        raise Failed("no response")
    status, body = response.get("status_code", 200), response.get("body")
    if status != 200:
        raise Failed(f"HTTP {status}: {_said(body)}")
    if not isinstance(body, dict):
        raise Failed("no body")
    return body


def _said(error: object) -> str:
    """What the server says of a failure, on one line."""
    while isinstance(error, dict):
        error = error.get("error", error.get("message", error.get("code")))
    return first_line(Exception(str(error)))
