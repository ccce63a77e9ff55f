"""The prompts of SELF: respond, judge, refine. Each is the tokens so far plus a few, so that a cache can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from selfevo_jax.errors import ConfigError, ModelError
from selfevo_jax.text.earlier_turns import check_earlier_turns
from selfevo_jax.text.section import FormatSection, space_behind
from selfevo_jax.text.templates import ChatTemplate
from selfevo_jax.text.tokenizer import BaseTokenizer

_NO_PIECE = "\U000f0000"
"""A character for private use, which vocabularies do without."""


class PromptFormat:
    """Token lists of the prompts.

    `judge` takes `respond(prompt) + response`, `refine` takes `judge(...) + feedback`; neither with the stop id. What
    they append begins with `end`, which is also what training teaches after each target text.

    Raises:
      ConfigError: a format that cannot be used.
      ModelError: the tokenizer has no end of text, or no chat template, or one that is not append-only.
    """

    end: tuple[int, ...]
    """The end of a turn: taught after each written target."""
    stop_ids: tuple[int, ...]
    stop_strings: tuple[str, ...]
    """Those to look for in text; the text of a control token never stands there, so its id is among `stop_ids`."""
    fingerprint: str
    """Of the format and of the tokenizer: what tokens prepared with it depend on."""

    def __init__(self, config: FormatSection, tokenizer: BaseTokenizer) -> None:
        self.config = config.filled()
        self._texts = {key: getattr(self.config, key) for key in ("respond", "judge", "refine")}
        stops = self.config.stop_strings
        self.stop_strings = tuple(text for text in stops if text not in tokenizer.controls)
        for text in self.stop_strings:
            if (inside := next((c for c in tokenizer.controls if c and c in text), None)) is not None:
                raise ConfigError(
                    f"format.stop_strings: {text!r} holds the control token {inside!r}, which is never part of a text; "
                    "name the token alone"
                )
        self._tokenizer, self._controls = tokenizer, frozenset(tokenizer.controls.values())
        self._unknown = tokenizer.encode_run(_NO_PIECE, prefix=False)
        """What stands for text without a piece of its own; it is shown with spaces around it, which are not there."""
        self._seam = " "
        self._end_bytes: bytes | None = None
        self._asking: Callable[[str], list[int]]
        (self._plain if self.config.kind == "plain" else self._chat)()
        named = [tokenizer.controls[text] for text in stops if text in tokenizer.controls]
        ends = self.end[:1] if self._ends_by_control() else ()
        self.stop_ids = tuple(dict.fromkeys((*tokenizer.eos_ids, *ends, *named)))
        shown = [self.config.model_dump(mode="json"), tokenizer.fingerprint, list(self.end), self._judge, self._refine]
        self.fingerprint = hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()

    def respond(self, prompt: str) -> list[int]:
        """Ids up to where the response begins; exactly one BOS where the tokenizer begins texts with one.

        The texts of control tokens within the prompt stay plain text.
        """
        tokenizer = self._tokenizer
        if self._trims:
            prompt = prompt.strip()
        ids = tokenizer.encode_runs(self._opening, lambda part: part.replace(self._slot, prompt))
        bos = tokenizer.bos_id
        if bos is not None:
            while len(ids) > 1 and ids[0] == ids[1] == bos:
                ids.pop(0)
            if tokenizer.add_bos and ids[:1] != [bos]:
                ids.insert(0, bos)
        return ids

    def judge(self, so_far: Sequence[int], text: str | None = None) -> list[int]:
        """`respond(prompt) + response`, and what asks for feedback; `text` asks in place of the format's own."""
        return [*so_far, *(self._judge if text is None else self._asking(text))]

    def refine(self, so_far: Sequence[int]) -> list[int]:
        """`judge(...) + feedback`, and what asks for the refinement."""
        return [*so_far, *self._refine]

    def continuation(self, so_far: Sequence[int], text: str) -> list[int]:
        """Ids of a written answer or feedback as the model goes on from a prompt of this format: with one space before
        it where the prompt ends without white space (chat: where the template puts one), and none where prompt or text
        has some. Behind a control token the text begins as the tokenizer has it there."""
        tokenizer = self._tokenizer
        if not text:
            return []
        seam = "" if text[0].isspace() else self._seam
        if [*so_far[-1:]] == self._unknown:
            return tokenizer.encode_run(seam + text, prefix=False)
        if not so_far or so_far[-1] in self._controls:
            if self.config.kind == "plain" or not so_far:  # the prompt is empty but for BOS: the text comes first
                return tokenizer.encode_run(text, prefix=True)
            prefix = True if tokenizer.prefix_after_control else None
            return tokenizer.encode_runs([("", so_far[-1], None), (seam + text, None, prefix)])[1:]
        before = b"".join(map(tokenizer.token_bytes, so_far[-4:])).decode("utf-8", "ignore")
        return tokenizer.encode_run(text if before[-1:].isspace() else seam + text, prefix=False)

    def notice(self) -> str | None:
        """What is worth a warning about the texts of this format; None where nothing is."""
        named = self.config.kind == "chat" or "kind" in self.config.model_fields_set
        if not named and self._tokenizer.chat_template is not None:
            return (
                "format.kind is not set, and so plain, but this model has a chat template: set format.kind=chat to ask "
                "by it, or format.kind=plain to keep the texts that a prompt has around it now"
            )
        respond, refine = self._texts["respond"], self._texts["refine"]
        apart = bool(space_behind(respond)) != bool(space_behind(refine)) and not respond.endswith("{prompt}")
        if self.config.kind == "chat" or not apart:
            return None
        return (
            f"format.refine ends in {refine[-8:]!r} and format.respond in {respond[-8:]!r}: a refinement is also "
            "taught as an answer, with the white space that it begins with; let both end in white space, or neither"
        )

    def ends(self, tokens: Sequence[int]) -> bool:
        """Whether these ids, drawn behind a text, are an end that training may teach: a stop id, or the whole of the
        stop string that ends the texts of this format."""
        if len(tokens) == 1 and tokens[0] in self.stop_ids:
            return True
        return b"".join(map(self._tokenizer.token_bytes, tokens)) == self._end_bytes

    def _ends_by_control(self) -> bool:
        return bool(self.end) and self.end[0] in self._controls

    def _plain(self) -> None:
        config, tokenizer = self.config, self._tokenizer
        if tokenizer.eos_ids:
            self.end = (tokenizer.eos_ids[0],)
        elif config.stop_strings:
            text = config.stop_strings[0]
            control = tokenizer.controls.get(text)
            self.end = tuple(tokenizer.encode_run(text, prefix=False)) if control is None else (control,)
            self._end_bytes = text.encode("utf-8") if control is None else None
        else:
            raise ModelError(f"{tokenizer.name}: no end-of-text token; set format.stop_strings to end texts by one")
        system = "" if config.system is None else config.system + "\n"
        self._slot, self._trims = "{prompt}", False
        before, after = self._texts["respond"].split("{prompt}")
        self._slot = _unused(before + after + system, 0)
        self._opening: list[tuple[str, int | None, bool | None]] = [(system + before + self._slot + after, None, True)]
        self._asking = lambda text: [*self.end, *tokenizer.encode_run(text, prefix=False)]
        self._judge = self._asking(self._texts["judge"])
        self._refine = [*self.end, *tokenizer.encode_run(self._texts["refine"], prefix=False)]

    def _chat(self) -> None:
        config, tokenizer = self.config, self._tokenizer
        if tokenizer.chat_template is None:
            raise ModelError(f"{tokenizer.name}: this tokenizer has no chat template; use format.kind=plain")
        variables = {**tokenizer.template_tokens, **config.template}
        template = ChatTemplate(tokenizer.chat_template, tokenizer.name, variables)
        # Marks stand for our own texts while the template runs: only its text can make control tokens.
        user, answer, feedback, ask, redo, system = (_unused(tokenizer.chat_template, i) for i in range(6))
        spoken = [{"role": "assistant", "content": answer}, {"role": "user", "content": ask}]
        spoken += [{"role": "assistant", "content": feedback}, {"role": "user", "content": redo}]

        def conversations(*before: dict[str, str]) -> list[list[dict[str, str]]]:
            first = [*before, {"role": "user", "content": user}]
            padded = [*before, {"role": "user", "content": f" {user} "}]
            return [first, [*first, *spoken[:2]], [*first, *spoken], padded]

        asked = conversations()
        if config.system is not None:
            asked += conversations({"role": "system", "content": system})
        found = template.render(*asked)
        opening, folded, first = _text(found[0]), config.system, asked[0]
        if config.system is not None and isinstance(found[4], str) and found[4].count(system) == 1:
            found, folded, first = found[4:], None, asked[4]
            opening = _text(found[0])
        if opening.count(user) != 1:
            raise ModelError(f"{tokenizer.name}: the chat template does not show the user's turn once")
        judged, refined, padded = map(_text, found[1:4])
        for text in (opening, judged, refined):
            if tokenizer.encode_runs(tokenizer.runs(text)) != tokenizer.encode(text, special=True):
                raise ModelError(
                    f"{tokenizer.name}: the prompts of its chat template would have other ids than in its tokenizer, "
                    "which finds some special tokens in normalized text only; set their 'normalized' to false"
                )
        self._seam, suffix = self._appended(opening, judged, answer)
        _, refine_suffix = self._appended(judged, refined, feedback)
        check_earlier_turns(template, first, ask, redo)
        self._trims = f" {user} " not in padded

        self._slot = _unused(self._texts["respond"] + (config.system or ""), 6)
        said_first = self._texts["respond"].replace("{prompt}", self._slot)
        if folded is not None:
            said_first = f"{folded}\n\n{said_first}"
        texts = {user: said_first, ask: self._texts["judge"], redo: self._texts["refine"], system: config.system or ""}
        self._opening = [(_fill(part, texts), id, prefix) for part, id, prefix in tokenizer.runs(opening)]
        self._asking = lambda text: self._tokens(suffix, texts | {ask: text})
        self._judge, self._refine = self._asking(self._texts["judge"]), self._tokens(refine_suffix, texts)
        if self._judge[0] != self._refine[0]:
            raise ModelError(f"{tokenizer.name}: the chat template ends the turns of the assistant in different ways")
        self.end = (self._judge[0],)

    def _appended(self, before: str, after: str, spoken: str) -> tuple[str, str]:
        """What the template puts between the prompt and what the assistant said (a blank or nothing), and behind it; an
        error if it changes what stood before."""
        at = after.find(spoken)
        # A blank between the prompt and the answer is no matter: it is the leading space of the answer's first piece.
        if at < 0 or after.count(spoken) != 1 or after[:at].rstrip(" ") != before.rstrip(" "):
            raise ModelError(
                f"{self._tokenizer.name}: the chat template is not append-only (a later turn changes the text of an "
                "earlier one); use format.kind=plain"
            )
        return after[len(before.rstrip(" ")) : at][:1], after[at + len(spoken) :].lstrip(" ")

    def _tokens(self, suffix: str, texts: dict[str, str]) -> list[int]:
        tokenizer = self._tokenizer
        runs = tokenizer.runs(suffix, start=False)
        ids: list[int] = []
        if runs and runs[0][1] is None:  # the template has no end of turn of its own
            if not tokenizer.eos_ids:
                raise ModelError(f"{tokenizer.name}: neither the chat template nor the tokenizer has an end of turn")
            ids.append(tokenizer.eos_ids[0])
            runs[0] = (runs[0][0], None, False)
        return ids + tokenizer.encode_runs(runs, lambda part: _fill(part, texts))


def _text(rendered: str | ModelError) -> str:
    if isinstance(rendered, ModelError):
        raise rendered
    return rendered


def _unused(text: str, index: int) -> str:
    """A short word that does not occur in the text."""
    number = 0
    while (mark := f"Mark{index}x{number}q") in text:
        number += 1
    return mark


def _fill(part: str, texts: dict[str, str]) -> str:
    for mark, text in texts.items():
        part = part.replace(mark, text)
    return part
