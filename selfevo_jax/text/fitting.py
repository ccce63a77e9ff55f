"""Which kind of format a tokenizer can have."""

from __future__ import annotations

from selfevo_jax.errors import ConfigError, ModelError
from selfevo_jax.text.format import PromptFormat
from selfevo_jax.text.section import FormatSection
from selfevo_jax.text.tokenizer import BaseTokenizer


def fitting_format(tokenizer: BaseTokenizer, **texts: str | None) -> tuple[FormatSection, str | None]:
    """`chat` where the chat template can be used, else `plain` with the reason why not; `texts` are keys of the format.

    Raises ModelError or ConfigError where neither can be used.
    """
    chat = FormatSection(kind="chat", **texts)  # type: ignore[arg-type]
    try:
        PromptFormat(chat, tokenizer)
    except (ConfigError, ModelError) as error:
        plain = FormatSection(kind="plain")
        PromptFormat(plain, tokenizer)
        return plain, str(error)
    return chat, None
