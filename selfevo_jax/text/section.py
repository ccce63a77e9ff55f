"""How prompts are written."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from selfevo_jax.errors import ConfigError
from selfevo_jax.section import Section

JUDGE_VERDICT = (
    "Check the answer above step by step. Name the first mistake, if there is one, and say what is right instead. "
    'End with one line: "Verdict: correct" or "Verdict: incorrect".'
)
"""The default instruction for feedback on verifiable tasks (chat)."""
JUDGE_RATING = (
    "Say what is good and what is lacking in the answer above: is it helpful, true, clear and complete? "
    'End with one line: "Rating: n/10", where 10 leaves nothing to wish for.'
)
"""An instruction for feedback on open-ended tasks (chat, with the judge kind `rating`)."""
REFINE = "Write the answer again by the light of this feedback. Give only the improved answer."
"""The default instruction for the refinement (chat)."""

_PLAIN = {"respond": "{prompt}\nAnswer:", "judge": "\nFeedback:", "refine": "\nRevision:"}
_CHAT = {"respond": "{prompt}", "judge": JUDGE_VERDICT, "refine": REFINE}


class FormatSection(Section):
    """plain: `respond` is the text around `{prompt}`; `judge` and `refine` are what stands between an answer and the
    feedback, and between the feedback and the refinement. chat: the model's own template; `respond` is the text of the
    first user turn, `judge` and `refine` those of the turns that ask.
    """

    kind: Literal["plain", "chat"] = "plain"
    """`plain`: the strings below around the texts. `chat`: the model's own chat template."""
    system: str | None = None
    """The system message; None: none."""
    respond: str | None = None
    """Text around `{prompt}`; None takes the default of the kind."""
    judge: str | None = None
    """What asks for feedback on the answer so far."""
    refine: str | None = None
    """What asks for the refinement, using the feedback."""
    stop_strings: tuple[str, ...] = ()
    """Texts that end an answer, beside the end-of-text tokens of the model."""
    template: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of the chat template's own, as `{enable_thinking: false}`; what they do is up to the template."""

    def filled(self) -> FormatSection:
        """With the defaults of the kind in place of None. Raises ConfigError naming a field that cannot be used."""
        defaults = _PLAIN if self.kind == "plain" else _CHAT
        texts = {k: d if getattr(self, k) is None else getattr(self, k) for k, d in defaults.items()}
        if self.kind == "plain":
            # a refinement is also taught as an answer: it should begin behind the same white space
            space = space_behind(texts["respond"])
            texts |= {k: defaults[k] + space for k in ("judge", "refine") if getattr(self, k) is None}
        if texts["respond"].count("{prompt}") != 1:
            raise ConfigError(f"format.respond: expected {{prompt}} once in it, found {texts['respond']!r}")
        for key in ("judge", "refine"):
            if not texts[key].strip():
                raise ConfigError(f"format.{key}: the text is empty; leave the key out for the default")
        if "" in self.stop_strings:
            raise ConfigError("format.stop_strings: an empty string would stop every text; remove it")
        self._check_template()
        return self.model_copy(update=texts)

    def _check_template(self) -> None:
        if self.template and self.kind != "chat":
            raise ConfigError("format.template: settings of a chat template, but format.kind is plain; set it to chat")
        for key in ("messages", "add_generation_prompt"):
            if key in self.template:
                raise ConfigError(f"format.template.{key}: is set for each prompt; remove it")


def space_behind(text: str) -> str:
    """The white space at its end."""
    return text[len(text.rstrip()) :]
