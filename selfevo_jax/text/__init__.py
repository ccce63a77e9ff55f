"""Text: tokenizers, incremental decoding, prompt formats, verdicts and numeric answers. Knows no arrays."""

from selfevo_jax.text.answers import (
    RULES,
    before_next_question,
    boxed,
    cut_run_on,
    extract_answer,
    is_scorable,
    own_answer,
    same_answer,
    without_working,
)
from selfevo_jax.text.export import (
    CHECKED_TEXTS,
    GENERATION,
    check_exported,
    checked_texts,
    exported_tokenizer,
    generation_config,
)
from selfevo_jax.text.fitting import fitting_format
from selfevo_jax.text.format import PromptFormat
from selfevo_jax.text.gguf_export import gguf_fields
from selfevo_jax.text.gguf_header import read_gguf_fields
from selfevo_jax.text.normal import normal, number_as_text, utf8
from selfevo_jax.text.rating import RATINGS
from selfevo_jax.text.section import JUDGE_RATING, JUDGE_VERDICT, REFINE, FormatSection
from selfevo_jax.text.stream import StreamDecoder, first_stop
from selfevo_jax.text.templates import ChatTemplate
from selfevo_jax.text.thinking import behind_thinking, own_part
from selfevo_jax.text.tokenizer import BaseTokenizer, Tokenizer, load_tokenizer
from selfevo_jax.text.verdict import VERDICTS, Verdict, VerdictRule, parse_verdict

__all__ = [
    "CHECKED_TEXTS",
    "GENERATION",
    "JUDGE_RATING",
    "JUDGE_VERDICT",
    "RATINGS",
    "REFINE",
    "RULES",
    "VERDICTS",
    "BaseTokenizer",
    "ChatTemplate",
    "FormatSection",
    "PromptFormat",
    "StreamDecoder",
    "Tokenizer",
    "Verdict",
    "VerdictRule",
    "before_next_question",
    "behind_thinking",
    "boxed",
    "check_exported",
    "checked_texts",
    "cut_run_on",
    "exported_tokenizer",
    "extract_answer",
    "first_stop",
    "fitting_format",
    "generation_config",
    "gguf_fields",
    "is_scorable",
    "load_tokenizer",
    "normal",
    "number_as_text",
    "own_answer",
    "own_part",
    "parse_verdict",
    "read_gguf_fields",
    "same_answer",
    "utf8",
    "without_working",
]
