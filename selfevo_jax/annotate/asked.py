"""Questions and what was answered: asked at a server, or looked up alone. Every answer is kept, and serves again.

An answer is kept under a digest of what it depends on: the model, its temperature, the messages (template and row) and
the number of the sample. The limit of its length stands beside it: an answer that came to its own end serves under any
limit, and one that was cut serves until the limit is raised.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from selfevo_jax.annotate.cost import Ledger, Price, Purse
from selfevo_jax.annotate.questions import Messages
from selfevo_jax.judges import EndpointSection
from selfevo_jax.judges.endpoint import Answer, Question, ask_endpoint
from selfevo_jax.progress import Reporter
from selfevo_jax.rounds.texts import Kept

NOT_YET = "not asked yet"
_FIELDS = {f.name for f in fields(Answer)}


def name_of(stage: str, section: EndpointSection, messages: Messages, sample: int = 0) -> str:
    """`feedback-DIGEST`: what an answer is kept under, without the limit of its length."""
    told = [section.model, section.temperature, list(messages), sample]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=False).encode("utf-8", "replace"))
    return f"{stage}-{digest.hexdigest()[:32]}"


def key_of(name: str, max_tokens: int) -> str:
    """The id of a question, and of its answer in the file."""
    return f"{name}-{max_tokens}"


def split_key(key: str) -> tuple[str, int] | None:
    """The inverse of `key_of`; None for other ids."""
    name, _, limit = key.rpartition("-")
    return (name, int(limit)) if limit.isascii() and limit.isdigit() and name else None


@dataclass
class Asker:
    """Answers to questions: those that are kept, and where it is `live` the server's.

    Where it is not, questions without an answer are in `pending`, with who is to answer them.
    """

    kept: Kept
    ledger: Ledger
    reporter: Reporter
    live: bool
    pending: list[tuple[EndpointSection, Question]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._by_name: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self.kept.rows:
            if (found := split_key(row["id"])) is not None:
                self._by_name[found[0]].append(row)

    def ask(
        self, stage: str, section: EndpointSection, price: Price | None, asks: Mapping[str, tuple[Messages, int]]
    ) -> dict[str, Answer]:
        """The answers by the keys of `asks`, which holds messages and the number of the sample; equal questions are
        asked once."""
        names = {key: name_of(stage, section, messages, sample) for key, (messages, sample) in asks.items()}
        ids: dict[str, str] = {}
        questions: dict[str, Question] = {}
        for key, name in names.items():
            if name not in ids:
                rows = self._by_name[name]
                self.ledger.add_kept(rows, price)
                ids[name] = _serves(rows, section.max_tokens) or key_of(name, section.max_tokens)
                questions[ids[name]] = Question(ids[name], asks[key][0])
        answers = self._answers(stage, section, price, questions)
        return {key: answers[ids[name]] for key, name in names.items()}

    def _answers(
        self, stage: str, section: EndpointSection, price: Price | None, questions: Mapping[str, Question]
    ) -> dict[str, Answer]:
        if self.live and questions:
            purse = Purse(self.ledger, price, section.max_tokens)
            title = f"{stage} by {section.model}"
            found = ask_endpoint(section, list(questions.values()), self.kept, self.reporter, title, purse=purse)
            self.ledger.refused += sum(answer.error == purse.refusal for answer in found)
            return {answer.id: answer for answer in found}
        kept = {row["id"]: row for row in self.kept.rows}
        left = [question for id, question in questions.items() if id not in kept]
        self.pending += [(section, question) for question in left]
        nothing = {question.id: Answer(question.id, "", "error", error=NOT_YET) for question in left}
        return nothing | {id: _answer(kept[id]) for id in questions if id in kept}


def _answer(row: Mapping[str, Any]) -> Answer:
    return Answer(**{name: value for name, value in row.items() if name in _FIELDS})


def _serves(rows: list[dict[str, Any]], limit: int) -> str | None:
    """The id of the kept answer that serves under a limit; None where the question is to be asked."""
    for row in rows:
        if _answer(row).whole:
            return str(row["id"])
    cut = [(found[1], row["id"]) for row in rows if (found := split_key(row["id"])) is not None and found[1] >= limit]
    return None if not cut else str(min(cut)[1])
