"""What the fields of rows are called: our names, the file's, and those of well-known data sets.

Besides our own names these are understood: GSM8K's `{question, answer}`, SVAMP's `{ID, Body, Question, Answer}`, the
`{question_id, turns}` of the Vicuna and MT-bench questions (the first turn is the prompt), Evol-Instruct's `{idx,
Instruction}`, `{instruction, input}` or `{instruction, instances}` of Alpaca and Self-Instruct (the instruction, an
empty line, and the input where there is one), and the rows of TRL: `prompt` with `completion`, both texts or lists of
messages, and `messages` (the first one, of the user, is the prompt, and the assistant's reply to it the answer; what
comes behind these is left out, and counted by `goes_on`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WHOLE_PROMPTS = ("question", "Instruction", "instruction")
"""Fields of these data sets that may be the whole prompt."""


def renamed(fields: dict[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Fields under our names; `columns` as for `numbered_rows`. A name that is not there changes nothing."""
    ours = {our: fields[theirs] for our, theirs in columns.items() if theirs in fields}
    return {name: value for name, value in fields.items() if name not in columns.values()} | ours if ours else fields


def our_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields under our names, where they have those of a data set that is understood."""
    values = _named(fields)
    if isinstance(values.get("prompt"), list):
        chat = _of_chat(values["prompt"])
        values = {**chat, **values, "prompt": chat.get("prompt", values["prompt"])}
    if "completion" in values:
        said = values["completion"]
        values.setdefault("answer", _said(said[0], "assistant") if isinstance(said, list) and len(said) == 1 else said)
    return values


def goes_on(fields: Mapping[str, Any]) -> bool:
    """Whether fields hold a conversation with further turns of the user, which are left out."""
    prompt, turns = _named(fields).get("prompt"), fields.get("turns")
    if isinstance(prompt, list):
        return sum(isinstance(one, dict) and one.get("role") == "user" for one in prompt) > 1
    return isinstance(turns, list) and len(turns) > 1 and turns[0] == prompt


def _of_chat(messages: list[Any]) -> dict[str, Any]:
    """The user's first message as the prompt, and the answer to it where there is one. Of another beginning, such as a
    system message, nothing: what stays a list is refused."""
    prompt = _said(messages[0], "user") if messages else None
    answer = _said(messages[1], "assistant") if len(messages) > 1 else None
    return {key: text for key, text in (("prompt", prompt), ("answer", answer)) if text is not None}


def _said(message: object, role: str) -> str | None:
    """The text of a message; None where it is another's, or no text."""
    text = message.get("content") if isinstance(message, dict) and message.get("role") == role else None
    return text if isinstance(text, str) else None


def _named(fields: Mapping[str, Any]) -> dict[str, Any]:
    values = dict(fields)
    if "prompt" in values:
        return values
    if "Body" in values and "Question" in values:
        body, question = values["Body"], values["Question"]
        if isinstance(body, str) and isinstance(question, str):
            # SVAMP leaves the full stop of some bodies out.
            body = body.strip()
            values["prompt"] = body + (" " if body.endswith((".", ",", "?", "!")) else ". ") + question.strip()
        else:
            values["prompt"] = None
        for ours, theirs in (("id", "ID"), ("answer", "Answer"), ("equation", "Equation")):
            if theirs in values:
                values.setdefault(ours, values[theirs])
    elif "question" in values:
        values["prompt"] = values["question"]
    elif "turns" in values:
        turns = values["turns"]
        values["prompt"] = turns[0] if isinstance(turns, list) and turns else None
        values.setdefault("id", values.get("question_id"))
    elif "Instruction" in values:
        values["prompt"] = values["Instruction"]
        values.setdefault("id", values.get("idx"))
    elif "instruction" in values:
        values["prompt"] = _with_input(values["instruction"], values.get("input"), values.get("instances"))
    elif "messages" in values:
        values["prompt"] = values["messages"]
    return values


def _with_input(instruction: object, given: object, instances: object) -> object:
    """An instruction with its input, which may be that of the first of several instances."""
    if given is None and isinstance(instances, list) and instances and isinstance(instances[0], dict):
        given = instances[0].get("input")
    if isinstance(instruction, str) and isinstance(given, str) and given.strip():
        return f"{instruction.strip()}\n\n{given.strip()}"
    return instruction
