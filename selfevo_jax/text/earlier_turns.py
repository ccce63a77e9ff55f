"""Whether a chat template keeps what the assistant said in earlier turns.

Our prompts are the tokens so far plus a few, so a template that drops or changes an earlier turn (its thinking, say)
would make other prompts wherever the model is served.
"""

from __future__ import annotations

import re
from itertools import pairwise

from selfevo_jax.errors import ModelError
from selfevo_jax.text.templates import ChatTemplate, Conversation

MAX_LITERALS = 200
"""Texts of a template that are tried; real ones have fewer than 100."""
_LITERAL = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", re.DOTALL)
_ESCAPES = {r"\n": "\n", r"\t": "\t", r"\'": "'", r"\"": '"', r"\\": "\\"}
_MARKUP = (
    "<think>\n{a}\n</think>\n\n{b}",
    "{a}</think>{b}",
    "<thinking>{a}</thinking>{b}",
    "[THINK]{a}[/THINK]{b}",
    "<reasoning>{a}</reasoning>{b}",
    "```\n{a}\n```\n{b}",
    "<b>{a}</b> & \"{b}\" '{a}'",
    "{a}\n\n{b}\n{a}",
    "\n {a}  {b} \n",
    "# {a}\n#### {b}",
    "**{a}**: \\boxed{{{b}}}",
)


def spoken_probes(source: str) -> list[str]:
    """Answers that a template might change: with markup of thinking, white space, and each text of its own source."""
    literals = [one or other for one, other in _LITERAL.findall(source)]
    for written, meant in _ESCAPES.items():
        literals = [text.replace(written, meant) for text in literals]
    found = [text.format(a="Probe0a", b="Probe0b") for text in _MARKUP]
    literals = list(dict.fromkeys(filter(str.strip, literals)))[:MAX_LITERALS]
    found += ["".join(f"Probe0a{text}" for text in order) + "Probe0b" for order in (literals, literals[::-1])]
    found += [f"{one}Probe0a{other}Probe0b" for one, other in pairwise(literals)]
    for text in literals:
        found += [f"Probe0a{text}Probe0b", f"{text}Probe0a{text.replace('<', '</').replace('[', '[/')}Probe0b"]
    return list(dict.fromkeys(found))


def check_earlier_turns(template: ChatTemplate, first: Conversation, ask: str, redo: str) -> None:
    """Raises ModelError when the template changes what the assistant said, beyond the white space around it.

    Args:
      template: the chat template.
      first: the turns up to the assistant's first.
      ask, redo: the user's later turns.
    """

    def turns(answer: str, feedback: str) -> list[Conversation]:
        said = [{"role": "assistant", "content": answer}, {"role": "user", "content": ask}]
        more = [{"role": "assistant", "content": feedback}, {"role": "user", "content": redo}]
        return [[*first, *said], [*first, *said, *more]]

    mark, other = "Probe1a", "Probe1b"
    probes = spoken_probes(template.source)
    asked: list[Conversation] = [*turns(mark, other), turns(other, mark)[1]]
    for probe in probes:
        asked += [*turns(probe, other), turns(other, probe)[1]]
    found = template.render(*asked)
    for i, text in enumerate(found[3:]):
        plain, probe = found[i % 3], probes[i // 3]
        for rendered in (plain, text):
            if isinstance(rendered, ModelError):
                raise rendered
        before, _, after = str(plain).partition(mark)
        said = str(text)[len(before) : len(str(text)) - len(after)]
        if said.strip() != probe.strip() or str(text) != before + said + after:
            raise ModelError(
                f"{template.name}: the chat template changes what the assistant said in an earlier turn (it does not "
                f"keep {probe!r} as it is); use format.kind=plain, or a template that keeps earlier turns"
            )
