"""Two answers in one prompt, in both orders, and a verdict in MT-bench's form that is read strictly.

Source: see `mt_bench`. Unlike there, a text that cannot be read for certain is never a tie or a loss.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selfevo_jax.judges.base import Reply
from selfevo_jax.judges.mt_bench import JudgePrompt
from selfevo_jax.text import behind_thinking

Slot = Literal["A", "B", "C"]
"""What a judge says: the first answer is better, the second one is, or neither."""
Outcome = Literal["win", "tie", "loss"]
"""Of the model, against the other side."""
Unread = Literal["none", "several", "unclear", "clipped", "not asked"]
"""Why there is no verdict: no mark in the text; different ones; one that is not said for certain; a text that did not
come to its own end; a judge that could not be asked."""
SIDES = ("first", "second")
"""The slots that the model's answer takes, one after the other."""

PAIR_VERDICTS = """What is read as the verdict of a pair.

1. Mark. [[A]], [[B]] or [[C]], in capitals and without spaces. Every mark of the text must be the same one; another
   letter in double brackets, whatever its case, makes the text unreadable.
2. Clause. The last mark stands alone, or behind a colon or dash, or in a clause of these words alone: so, thus, hence,
   therefore, finally, overall, in conclusion, in summary; the, my, our, final, better, best; verdict, judgement,
   decision, choice, answer, response, assistant, conclusion, output, winner, evaluation, result; is, as, be, and, it,
   this, with, for, I, we, would, will, choose, pick, select, give, go, say, vote, declare, A, B (not "would be").
   No "if", "unless", "whether", "might", "example", "format" or the like stands before it in its sentence.
3. End. The mark ends its line or sentence, or a reason follows behind a dash, colon, bracket, "because", "since", "as",
   without "but", "though", "or", "perhaps" and the like.
4. Behind it nothing takes it back: no "wait", "actually", "on second thought", no other verdict in words, no "B is
   better" behind [[A]].
5. The text came to its own end. What is only thought before the answer (<think>...</think>) is not read.
"""

_MARK = re.compile(r"\[\[([ABC])\]\]")
_OTHER = re.compile(r"\[\[\s*(?:assistant\s*)?[a-z]\s*\]\]", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?]['\"”*_)]*\s|\n")
_CLAUSE = re.compile(r".*(?:[:;,=>—–]| -+(?= ))", re.DOTALL)
_WORDS = re.compile(
    r"so|thus|hence|therefore|finally|overall|in|conclusion|summary|the|my|our|final|better|best|verdict|judge?ment"
    r"|decision|choice|answer|response|assistant|output|winner|evaluation|result|is|as|be|and|it|this|with|for|i|we|would"
    r"|will|choose|pick|select|give|go|say|vote|declare|a|b"
)
_DOUBT = re.compile(r"\b(?:if|unless|whether|example|e\.g|instance|format|could|might|may)\b", re.IGNORECASE)
_STOP = re.compile(r"[\"'`*_)\]}”’]*(?:[.!](?=[\s\"'`*_)\]}”’]|\Z)|\s*\n|\s*\Z)")
_REASON = re.compile(r"[\"'`*_)\]}”’]*(?:\s*[:(—–]|\s+-+\s|,?\s+(?:because|since|as)\b)", re.IGNORECASE)
_HEDGE = re.compile(
    r"\b(?:but|however|(?:al)?though|if|unless|except|or|maybe|perhaps|possibly|probably|not sure|unsure"
    r"|tie|draw|could|might|may)\b",
    re.IGNORECASE,
)
_BETTER = (
    r"\b{0}(?:'s)?(?: (?:answer|response))? (?:wins\b|(?:is|was|gives|provides|has)"
    r"(?: (?:the|a|clearly|much|slightly|overall|still|far))* (?:better|best|superior|winner|preferred|preferable"
    r"|more (?:accurate|complete|correct|helpful|relevant|useful))\b)"
)
_TAKES_BACK = re.compile(
    r"\b(?:wait|actually|second thought|reflection|correction|reconsider\w*|change my|take (?:it|that|this) back"
    r"|verdict|judge?ment)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PairVerdict:
    """What a judge's text says of a pair; exactly one of the two is None."""

    slot: Slot | None
    unread: Unread | None = None


def read_pair_verdict(text: str, whole: bool = True) -> PairVerdict:
    """Reads by PAIR_VERDICTS; `whole` says whether the text came to its own end."""
    if not whole:
        return PairVerdict(None, "clipped")
    begin = behind_thinking(text)
    text = "" if begin is None else text[begin:]
    marks = list(_MARK.finditer(text))
    if not marks:
        return PairVerdict(None, "none")
    if len({mark[1] for mark in marks}) > 1 or len(_OTHER.findall(text)) > len(marks):
        return PairVerdict(None, "several")
    last = marks[-1]
    if not (_begins(text[: last.start()]) and _ends(text[last.end() :], last[1])):
        return PairVerdict(None, "unclear")
    slot: Slot = "A" if last[1] == "A" else "B" if last[1] == "B" else "C"
    return PairVerdict(slot)


def _begins(before: str) -> bool:
    """Whether a mark behind this text is said for certain."""
    ends = [end.end() for end in _SENTENCE_END.finditer(before)]
    sentence = before[ends[-1] :] if ends else before
    if _DOUBT.search(sentence):
        return False
    clause = sentence[found.end() :] if (found := _CLAUSE.match(sentence)) else sentence
    words = re.findall(r"[^\W\d_]+", clause.lower())
    return all(map(_WORDS.fullmatch, words)) and "would be" not in " ".join(words)


def _ends(behind: str, slot: str) -> bool:
    """Whether a mark of this slot before this text stands."""
    if _STOP.match(behind) is None:
        end = _SENTENCE_END.search(behind)
        if _REASON.match(behind) is None or _HEDGE.search(behind[: end.start()] if end else behind):
            return False
    others = [other for other in "AB" if other != slot]
    contrary = any(re.search(_BETTER.format(other), behind, re.IGNORECASE) for other in others)
    return not contrary and _TAKES_BACK.search(behind) is None


@dataclass(frozen=True)
class Judgement:
    """Of one pair in one order, in the judge's own words."""

    text: str
    verdict: PairVerdict
    error: str | None = None
    """Why the judge could not be asked."""

    @classmethod
    def of(cls, text: str, whole: bool, error: str | None = None) -> Judgement:
        """A judge's answer, read; `error` where there is none."""
        found = PairVerdict(None, "not asked") if error is not None else read_pair_verdict(text, whole)
        return cls(text, found, error)


@dataclass(frozen=True)
class Pair:
    """A prompt, both answers, and what a judge said of them with the model's answer first, and with it second."""

    id: str
    prompt: str
    answers: tuple[str, str]
    """The model's, and the other side's."""
    judgements: tuple[Judgement, Judgement]

    @classmethod
    def of(cls, id: str, prompt: str, answers: tuple[str, str], replies: Sequence[Reply]) -> Pair:
        """Read from what was said in both orders."""
        first, second = (Judgement.of(one.text, one.whole, one.error) for one in replies)
        return cls(id, prompt, answers, (first, second))

    @property
    def outcome(self) -> Outcome | None:
        """Agreement decides, a disagreement is a tie; None, not judged, where an order could not be read."""
        first, second = (judgement.verdict.slot for judgement in self.judgements)
        if first is None or second is None:
            return None
        if (first, second) == ("A", "B"):
            return "win"
        return "loss" if (first, second) == ("B", "A") else "tie"

    @property
    def consistent(self) -> bool | None:
        """Whether both orders say the same; None where the pair is not judged."""
        if self.outcome is None:
            return None
        return self.outcome != "tie" or all(judgement.verdict.slot == "C" for judgement in self.judgements)


def pair_text(prompt: JudgePrompt, question: str, answers: tuple[str, str], model_first: bool) -> str:
    """What shows a judge two answers, the model's and the other side's; `model_first` is the order."""
    a, b = answers if model_first else answers[::-1]
    return prompt.text(question=question, answer_a=a, answer_b=b)


def in_both_orders(prompt: JudgePrompt, question: str, answers: tuple[str, str]) -> dict[str, str]:
    """What a judge is shown of a pair, by the side that the model's answer takes."""
    return {side: pair_text(prompt, question, answers, side == SIDES[0]) for side in SIDES}
