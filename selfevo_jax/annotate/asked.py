"""Questions and what was answered: asked at a server, or looked up alone. Every answer is kept, and serves again.

An answer is kept under a digest of what it depends on: the model, its temperature, the messages (template and row) and
the number of the sample. The limit of its length stands beside it: an answer that came to its own end serves under any
limit, and one that was cut serves until the limit is raised. A question that is asked again (`--again`) has a number in
its id, so that all its answers are kept, and paid for once each.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping
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


def key_of(name: str, max_tokens: int, time: int = 1) -> str:
    """The id of a question that is asked for so many times now, and of its answer in the file."""
    return f"{name}-{max_tokens}" if time == 1 else f"{name}.{time}-{max_tokens}"


def split_key(key: str) -> tuple[str, int, int] | None:
    """The inverse of `key_of`: name, limit and time; None for other ids."""
    head, _, limit = key.rpartition("-")
    name, _, time = head.partition(".")
    if not name or not all(part.isascii() and part.isdigit() for part in (limit, time or "1")):
        return None
    return name, int(limit), int(time or 1)


@dataclass
class Asker:
    """Answers to questions: those that are kept, and where it is `live` the server's.

    Where it is not, questions without an answer are in `pending`, with who is to answer them. With `again` what is kept
    and cannot be used is asked for once more, except what was cut: that serves until the limit is raised.
    """

    kept: Kept
    ledger: Ledger
    reporter: Reporter
    live: bool
    again: bool = False
    unusable: int = 0
    """Answers that came to their own end, and cannot be used."""
    pending: list[tuple[EndpointSection, Question]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._by_name: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for row in self.kept.rows:
            if (found := split_key(row["id"])) is not None:
                self._by_name[found[0]].append(row)

    def ask(
        self,
        stage: str,
        section: EndpointSection,
        price: Price | None,
        asks: Mapping[str, tuple[Messages, int]],
        usable: Callable[[str, Answer], bool],
    ) -> dict[str, Answer]:
        """The answers by the keys of `asks`, which holds messages and the number of the sample; equal questions are
        asked once. `usable` says whether a row can be made of an answer to that key."""
        names = {key: name_of(stage, section, messages, sample) for key, (messages, sample) in asks.items()}
        ids: dict[str, str] = {}
        questions: dict[str, Question] = {}
        for key, name in names.items():
            if name not in ids:
                rows = self._by_name[name]
                self.ledger.add_kept(rows, price)
                ids[name] = self._id(name, rows, section.max_tokens, functools.partial(usable, key))
                questions[ids[name]] = Question(ids[name], asks[key][0])
        answers = self._answers(stage, section, price, questions)
        first = {name: key for key, name in reversed(names.items())}
        self.unusable += sum(
            _is_lost(answers[ids[name]], functools.partial(usable, key)) for name, key in first.items()
        )
        return {key: answers[ids[name]] for key, name in names.items()}

    def _id(self, name: str, rows: list[dict[str, Any]], limit: int, usable: Callable[[Answer], bool]) -> str:
        """Of the kept answer that serves under a limit; or of the question that is to be asked."""
        found = _serves(rows, limit, usable)
        if found is None:
            return key_of(name, limit)
        if not self.again or not _is_lost(found, usable):
            return found.id
        times = [split[2] for row in rows if (split := split_key(row["id"])) is not None]
        return key_of(name, limit, max(times) + 1)

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


def _is_lost(answer: Answer, usable: Callable[[Answer], bool]) -> bool:
    return answer.error is None and answer.finish != "length" and not usable(answer)


def _serves(rows: list[dict[str, Any]], limit: int, usable: Callable[[Answer], bool]) -> Answer | None:
    """The kept answer that serves under a limit: the first that can be used, or else the last; None where there is
    none."""
    whole = [answer for answer in map(_answer, rows) if answer.whole]
    if whole:
        return next(filter(usable, whole), whole[-1])
    cut = [(found[1], row["id"], row) for row in rows if (found := split_key(row["id"])) and found[1] >= limit]
    return _answer(min(cut, key=lambda one: one[:2])[2]) if cut else None
