"""An OpenAI-compatible server: chat completions, asked by process 0 alone, kept as they come.

The client is the official `openai` package (extra `annotate`), with its own retries off: it knows TLS, proxies and the
forms of errors, but not what the questions share, such as a pause that the server asked for.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import os
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from selfevo_jax import hosts
from selfevo_jax.errors import ConfigError, first_line
from selfevo_jax.judges.asking import Asking, Broken, Busy, Pace, Refused, Unreached
from selfevo_jax.judges.connection import cause_of, never_connected
from selfevo_jax.judges.server import EndpointSection
from selfevo_jax.lazy import install
from selfevo_jax.progress import Reporter

if TYPE_CHECKING:
    from openai import AsyncOpenAI

NO_KEY = "none"
"""Sent where the environment has no key: servers of one's own want none."""
_LOOK_SECONDS = 5.0
"""For a server to list its models."""
_CONNECT_SECONDS = 10.0
"""For a connection, of the time that a try has; half of that where it is short, so that it is known which of the two
was up."""
_MOST_TOKENS = 10**9
"""Of one text: a server that says more has not counted."""
_SHORTEST_SECRET = 12
"""Characters of a key that is hidden in answers: a shorter one may be a word, as EMPTY, and is no secret."""

_reached: set[str] = set()
"""Servers that have answered this process: one of them that is gone for a minute is waited for."""


@dataclass(frozen=True)
class Question:
    """A conversation to be continued."""

    id: str
    messages: tuple[Mapping[str, str], ...]
    """Of `role` and `content`."""

    @classmethod
    def of(cls, id: str, system: str, user: str) -> Question:
        return cls(id, ({"role": "system", "content": system}, {"role": "user", "content": user}))


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    id: str
    text: str
    finish: str
    """As the server calls it; `stop` is a text that came to its own end."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """As the server counts them (`usage`); 0 where it does not."""
    error: str | None = None
    """Why there is no answer."""

    @property
    def whole(self) -> bool:
        return self.error is None and self.finish == "stop"


Record = Callable[[dict[str, Any]], None]


class Purse(Protocol):
    """What keeps questions within what they may cost."""

    @property
    def note(self) -> str:
        """What has been spent, for the progress."""
        ...

    @property
    def refusal(self) -> str:
        """Why a question was not asked."""
        ...

    def admits(self, question: Question) -> bool:
        """Whether a question may be sent; what it can cost at most is set aside until it is settled."""
        ...

    def settle(self, question: Question, answer: Answer | None) -> None:
        """Takes what came of a question; None where it was not answered. May raise, which ends the asking."""
        ...


class Log(Protocol):
    """Where answers are kept as they come (see run.journal.Journal): rows of `id`, `sample` and more."""

    @property
    def rows(self) -> Sequence[Mapping[str, Any]]: ...

    def append(self, row: dict[str, Any]) -> None: ...


def ask_endpoint(
    section: EndpointSection,
    questions: Sequence[Question],
    log: Log | None,
    reporter: Reporter,
    title: str,
    record: Record | None = None,
    purse: Purse | None = None,
) -> list[Answer]:
    """The answer to every question, in their order; one that could not be had has an `error`, and is not kept.

    Process 0 asks, and the others are given what it has got; `log` is read and written there alone (elsewhere None).
    What is in the log is not asked again. `record` takes what this call has cost, as plain JSON values. A `purse` says
    what may be asked; what it does not admit has an `error`, too.

    Raises ConfigError where the client is not installed, or the server knows no such key or model; SelfevoError where
    it answers nothing any more.
    """
    found: list[Answer] = []
    if hosts.is_writer():
        with hosts.working(title):
            found = _asked(section, questions, log, reporter, title, record, purse)
    return [Answer(**row) for row in hosts.share(f"{title}: answers", [asdict(answer) for answer in found])]


def _asked(
    section: EndpointSection,
    questions: Sequence[Question],
    log: Log | None,
    reporter: Reporter,
    title: str,
    record: Record | None,
    purse: Purse | None,
) -> list[Answer]:
    wanted_ids = {question.id for question in questions}
    kept = [row for row in (log.rows if log is not None else ()) if row["id"] in wanted_ids]
    answers = {row["id"]: Answer(**{key: row[key] for key in row if key != "sample"}) for row in kept}
    left = [question for question in questions if question.id not in answers]
    if left:
        begun, retries, told = time.monotonic(), 0, False
        with reporter.task(title, len(questions), "answers") as meter:

            def on_answer(question: Question, answer: Answer) -> None:
                answers[question.id] = answer
                if log is not None:
                    log.append({**asdict(answer), "sample": 0})
                if purse is not None:
                    purse.settle(question, answer)

            def on_failure(question: Question, why: str) -> None:
                answers[question.id] = _no_answer(question, why)
                if purse is not None:
                    purse.settle(question, None)

            def on_progress(asking: Asking[Question, Answer]) -> None:
                nonlocal retries, told
                retries = asking.retries
                if asking.trouble and not told:
                    reporter.line(f"  {title}: {section.url}: {asking.trouble}; asking again")
                    told = True
                at_once = min(asking.limit, max(1, len(questions) - len(answers)))
                notes = [f"{at_once} side by side", f"{retries} asked again", f"{asking.failed} failed"]
                notes += [] if purse is None or not purse.note else [purse.note]
                notes += [] if asking.done or not asking.trouble else [f"no answer yet: {asking.trouble}"]
                meter.set(len(answers), ", ".join(notes))

            try:
                _to_its_end(_ask_all(section, left, on_answer, on_failure, on_progress, len(answers), purse))
            finally:
                if record is not None:
                    asked = [answers[question.id] for question in left if question.id in answers]
                    record({"phase": title, **_cost(asked, retries), "seconds": time.monotonic() - begun})
    refusal = "" if purse is None else purse.refusal
    wanted = [answers.get(question.id) or _no_answer(question, refusal) for question in questions]
    _report(wanted, reporter, title, asked=bool(left))
    return wanted


def _to_its_end(asking: Coroutine[Any, Any, None]) -> None:
    """Runs it; in a thread of its own where this one has a loop that runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(asking)
    tasks: list[asyncio.Task[Any]] = []

    async def told() -> None:
        tasks.extend(filter(None, [asyncio.current_task()]))
        await asking

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(lambda: asyncio.run(told()))
        try:
            return ended.result()
        except BaseException:  # Ctrl-C comes here, and not there
            for task in tasks if not ended.done() else ():
                task.get_loop().call_soon_threadsafe(task.cancel)
            raise


def _no_answer(question: Question, why: str) -> Answer:
    return Answer(question.id, "", "error", error=why)


def _cost(answers: Sequence[Answer], retries: int) -> dict[str, Any]:
    tokens = {kind: sum(getattr(a, kind) for a in answers) for kind in ("prompt_tokens", "completion_tokens")}
    failed = sum(answer.error is not None for answer in answers)
    return {"questions": len(answers), "failed": failed, "asked_again": retries, **tokens}


def _report(answers: Sequence[Answer], reporter: Reporter, title: str, asked: bool) -> None:
    read, written = (sum(getattr(a, kind) for a in answers) for kind in ("prompt_tokens", "completion_tokens"))
    tokens = f"{read:,} tokens read and {written:,} written, as the server counts them"
    now = "" if asked else f"nothing was asked now, since all {len(answers):,} answers are there; they took "
    reporter.line(f"  {title}: {now}{tokens}")
    failed = [answer for answer in answers if answer.error is not None]
    if failed:
        reporter.warn(
            f"{title}: {len(failed)} of {len(answers)} questions have no answer, and count as not asked (the first, "
            f"{failed[0].id}: {failed[0].error})"
        )


def client() -> type[AsyncOpenAI]:
    """Raises ConfigError where it is not installed."""
    try:
        from openai import AsyncOpenAI
    except ImportError as error:
        raise ConfigError(
            f"asking a server needs the openai package; install it with: {install('annotate')}"
        ) from error
    return AsyncOpenAI


def server_notice(section: EndpointSection) -> str | None:
    """What the user should know of a server before it is asked: that it is not there yet, takes no such key, or lists
    its models and has none of that name; None where nothing is known to be wrong. To be called by one process.

    Raises ConfigError where the client is not installed, or the key cannot be one.
    """
    client()
    import openai

    key = key_of(section)
    try:
        with openai.OpenAI(base_url=section.url, api_key=key, max_retries=0, timeout=_LOOK_SECONDS) as opened:
            known = [str(model.id) for model in opened.models.list().data]
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        return str(_of_status(error.status_code, first_line(error), {}, section, key))
    except openai.APIConnectionError as error:
        return f"{section.url}: cannot be reached now ({_hidden(cause_of(error), key)})"
    except Exception:  # a server need not list its models, and may do so in a form of its own
        return None
    if not known or section.model in known:
        return None
    return f"{section.url}: lists no model '{section.model}', but {', '.join(known[:8])}"


async def _ask_all(
    section: EndpointSection,
    questions: Sequence[Question],
    on_answer: Callable[[Question, Answer], None],
    on_failure: Callable[[Question, str], None],
    on_progress: Callable[[Asking[Question, Answer]], None],
    before: int,
    purse: Purse | None,
) -> None:
    """`before`: answers that are there already."""
    key = key_of(section)
    pace = Pace(section.concurrency, section.retries, section.answer_seconds, section.longest_wait_seconds)
    made = client()
    from openai import Timeout

    limits = Timeout(section.answer_seconds, connect=_connect_seconds(section))
    async with made(base_url=section.url, api_key=key, max_retries=0, timeout=limits) as opened:

        async def ask(question: Question) -> Answer:
            return await _ask(opened, section, question, key)

        admits = (lambda _: True) if purse is None else purse.admits
        known = section.url in _reached
        await Asking(section.url, ask, pace, on_answer, on_failure, on_progress, before, admits, known).run(questions)


def _connect_seconds(section: EndpointSection) -> float:
    return min(section.answer_seconds / 2, _CONNECT_SECONDS)


def key_of(section: EndpointSection) -> str:
    """The key in the environment; NO_KEY where there is none. Raises ConfigError for what no header can hold."""
    variable = section.key_variable
    key = os.environ.get(variable, "").strip()  # a file's last line end, often
    if re.fullmatch(r"[!-~]*", key) is None:  # it is not repeated
        raise ConfigError(
            f"the environment variable {variable} holds a key with white space or other characters that no key has; "
            "set it anew"
        )
    return key or NO_KEY


async def _ask(client: AsyncOpenAI, section: EndpointSection, question: Question, key: str) -> Answer:
    """One try. Raises Failed, or SelfevoError where no question can be answered."""
    import openai

    try:
        found = await client.chat.completions.create(**body_of(section, question))
    except openai.APITimeoutError as error:
        if never_connected(error):
            raise Unreached(f"no connection within {_connect_seconds(section):g} s") from error
        raise Broken(f"no answer within {section.answer_seconds:g} s") from error
    except openai.APIStatusError as error:
        _reached.add(section.url)
        raise _of_status(error.status_code, first_line(error), error.response.headers, section, key) from None
    except openai.APIConnectionError as error:
        kind = Unreached if never_connected(error) else Broken
        raise kind(f"the connection failed ({_hidden(cause_of(error), key)})") from None
    except (openai.OpenAIError, ValueError) as error:  # not JSON, or not in the form of an answer
        raise Broken(f"the answer cannot be read ({_hidden(first_line(error), key)})") from None
    _reached.add(section.url)
    return read_answer(question.id, found, key)


def body_of(section: EndpointSection, question: Question) -> dict[str, Any]:
    """What is sent to a server of chat completions, as plain JSON values."""
    body: dict[str, Any] = {"model": section.model, "messages": [dict(message) for message in question.messages]}
    body[section.max_tokens_name] = section.max_tokens
    return body if section.temperature is None else body | {"temperature": section.temperature}


def read_answer(id: str, found: Any, key: str) -> Answer:
    """A completion, as the client makes it of JSON of any form: every field is looked at here. Raises Broken for what
    is none; the key, should the server repeat it, is hidden."""
    choices = getattr(found, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise Broken("the answer cannot be read (it has no choices)")
    message, finish = getattr(choices[0], "message", None), getattr(choices[0], "finish_reason", None)
    text = getattr(message, "content", None)
    if message is None or not isinstance(finish, str) or not isinstance(text, str | None):
        raise Broken("the answer cannot be read (it has no message with its finish_reason)")
    counts = [getattr(getattr(found, "usage", None), kind, 0) for kind in ("prompt_tokens", "completion_tokens")]
    read, written = (count if isinstance(count, int) and 0 < count < _MOST_TOKENS else 0 for count in counts)
    said = (text or "").encode("utf-8", "replace").decode("utf-8")  # half a character could not be written down
    return Answer(id, said if len(key) < _SHORTEST_SECRET else _hidden(said, key), finish, read, written)


def _of_status(status: int, said: str, headers: Any, section: EndpointSection, key: str) -> Exception:
    """What an HTTP status other than success means for the questions."""
    why = f"HTTP {status}: {_hidden(said, key)}"
    if status in (401, 403):
        variable = section.key_variable
        found = "holds a key that it does not take" if os.environ.get(variable) else "is not set"
        return ConfigError(f"{section.url}: {why}; the environment variable {variable} {found}")
    if status == 404:
        return ConfigError(f"{section.url}: {why}; name a URL that ends before /chat/completions, and a model it has")
    wait = _wait(headers)
    if status == 429:
        return Busy(why, wait)
    if status in (408, 409) or status >= 500:
        return Broken(why, wait)
    return Refused(why)


def _wait(headers: Any) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, or `retry-after` as a number or a date (RFC 9110)."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        said = headers.get(name)
        if said is None:
            continue
        try:
            seconds = float(said) * scale
        except ValueError:
            try:
                seconds = email.utils.parsedate_to_datetime(said).timestamp() - time.time()
            except (ValueError, OverflowError):
                continue
        if not math.isnan(seconds):
            return max(0.0, seconds)
    return None


def _hidden(text: str, key: str) -> str:
    """A text without the key, should the server repeat it."""
    return text if key == NO_KEY else text.replace(key, "***")
