"""The way out: a tokenizer as files that `transformers` reads with the same ids, checked before they are used."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import tokenizers

from selfevo_jax.errors import ModelError, first_line
from selfevo_jax.text.tokenizer import BaseTokenizer, dump_json, well_formed

GENERATION = "generation_config.json"
CHECKED_TEXTS = 200
_DROPPED = frozenset({"legacy", "added_tokens_decoder", "unk_token", "add_prefix_space", "add_eos_token"})
"""Settings of another class of tokenizer, and what the tokenizer.json says itself."""
_PARTS = """
the answer is 12. How many apples? it's don't ISN'T 3.14159 1,234,567 -0.5 x=2*(3+4)/y #### \\frac{1}{2} \\boxed{18}
def f(x): return [x] {"a": [1, null]} <html> </b> &amp; https://example.org/a?b=c_d%20e user@host C:\\dir ~/x $PATH
`code` **bold** _it_ - item 1) 2. ... !? ;-) « » “quoted” ‘x’ – — … • → ≤ ≠ ∑ √2 x² H₂O ½ 10⁶ 50% 20°C €5 £3 ₹7 № ™ ©
é è ñ ü ß Æ œ ø Å İ ı ﬁ ﬂ Ａ１ ｶﾞ ㌔ Ⅷ ① e\u0301 n\u0303 e\u0302\u0301 Ελληνικά Привет мир Ѐ українська ქართული հայերեն
שָׁלוֹם שלום العربية مَرْحَبًا فارسی हिन्दी नमस्ते क्षि বাংলা தமிழ் తెలుగు ไทย สวัสดี ລາວ မြန်မာ ខ្មែរ አማርኛ ᏣᎳᎩ 日本語 東京タワー
中文繁體 한국어 か\u3099 𝒳 𝔘 𐍈 𓀀 😀 🙂 👍🏽 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ☃ ✅
\u200b \u200d \u2060 \ufeff \u00ad \ufffd \u0000 \u0007
a b I <0x0A> <0x41> <unk> <s> </s> <|im_end|> [INST] \u2581 \u2581\u2581a
""".split()  # noqa: SIM905
_SEAMS = (" ", " ", " ", "", "", "  ", "   ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", " \n ")


def exported_tokenizer(tokenizer: BaseTokenizer, stop_ids: Sequence[int] = ()) -> dict[str, bytes]:
    """Name -> content of the tokenizer's files in a Hugging Face folder.

    Args:
      tokenizer: of any kind.
      stop_ids: further ids that end a text as it was trained; they join the tokenizer's own in generation_config.json.

    Raises ModelError for a tokenizer that cannot be written so.
    """
    texts = {id: text for text, id in tokenizer.controls.items()}
    pad = texts.get(tokenizer.pad_id)
    tree = tokenizer.tokenizer_json()
    ends = list(dict.fromkeys((*tokenizer.eos_ids, *stop_ids)))
    bos = None if tokenizer.bos_id is None else texts[tokenizer.bos_id]
    tree["post_processor"] = _begins_with(bos, tokenizer.bos_id) if tokenizer.add_bos else None
    config: dict[str, Any] = {
        key: value
        for key, value in tokenizer.settings().items()
        if key not in _DROPPED and (not key.endswith("_token") or value in tokenizer.controls or type(value) is not str)
    }
    config |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": bos,
        "eos_token": texts[tokenizer.eos_ids[0]] if tokenizer.eos_ids else None,
        "pad_token": pad,
        "add_bos_token": tokenizer.add_bos,
        "clean_up_tokenization_spaces": False,
        "chat_template": None,
    }
    files = {
        "tokenizer.json": _library_of(tree, tokenizer.name).to_str(pretty=True).encode("utf-8"),
        "tokenizer_config.json": dump_json(config),
        GENERATION: generation_config(tokenizer.bos_id, ends, None if pad is None else tokenizer.pad_id),
    }
    if tokenizer.chat_template is not None:
        files["chat_template.jinja"] = tokenizer.chat_template.encode("utf-8")
    return files


def generation_config(bos_id: int | None, ends: Sequence[int], pad_id: int | None = None) -> bytes:
    """The file of that name. What there is none of is not in it."""
    return dump_json({"bos_token_id": bos_id, "eos_token_id": list(ends) or None, "pad_token_id": pad_id})


def check_exported(files: Mapping[str, bytes], tokenizer: BaseTokenizer, texts: Sequence[str] | None = None) -> None:
    """Compares the ids of texts, the texts of control tokens read as their ids, and the texts of these ids.

    Args:
      files: what `exported_tokenizer` gave.
      tokenizer: the one that they were made of.
      texts: None takes `CHECKED_TEXTS` of many scripts, with numbers, code, white space and the tokenizer's own tokens.

    Raises ModelError with the first text that has other ids, or whose ids have another text.
    """
    tree = json.loads(files["tokenizer.json"])
    made = _library_of(tree, tokenizer.name)
    begins = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    problem = f"{tokenizer.name}: this tokenizer cannot be written as a tokenizer.json"
    remedy = "please report it with the model's name"
    if "tokenizer.json" not in tokenizer.files():
        remedy = "export a model whose folder has a tokenizer.json"
    unknown = _unknown_of(tree["model"], made)
    for text in checked_texts(tokenizer) if texts is None else texts:
        expected = begins + tokenizer.encode(text, special=True)
        found = list(made.encode(well_formed(text)).ids)
        if found != expected:
            raise ModelError(
                f"{problem}: {text[:80]!r} has the ids {_some(found)} there, expected {_some(expected)}; {remedy}"
            )
        # what stands for text without a piece of its own is shown in another way by each library
        if unknown not in found and (shown := made.decode(found)) != (known := tokenizer.decode(expected)):
            raise ModelError(
                f"{problem}: the ids of {text[:80]!r} are {shown[:80]!r} there, expected {known[:80]!r}; {remedy}"
            )


def checked_texts(tokenizer: BaseTokenizer) -> list[str]:
    """The texts that an export is checked with: the same ones for the same tokenizer."""
    random_ = random.Random(0)
    own = [*tokenizer.controls, *tokenizer.text_tokens()][:100]
    texts = ["", " ", "  ", "\n", " a", "a ", "  a  b  "]
    while len(texts) < CHECKED_TEXTS:
        drawn = [own if own and random_.random() < 0.1 else _PARTS for _ in range(random_.randint(1, 12))]
        parts = [random_.choice(some) for some in drawn]
        texts.append("".join(part + random_.choice(_SEAMS) for part in parts))
    return texts


def _library_of(tree: Mapping[str, Any], name: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(json.dumps(tree))
    except Exception as error:  # the library raises plain Exception
        raise ModelError(
            f"{name}: this tokenizer cannot be written as a tokenizer.json ({first_line(error)})"
        ) from error


def _unknown_of(model: Mapping[str, Any], made: tokenizers.Tokenizer) -> int | None:
    """The id that stands for text without a piece."""
    if "unk_id" in model:
        return model["unk_id"]
    text = model.get("unk_token")
    return None if text is None else made.token_to_id(text)


def _begins_with(bos: str | None, id: int | None) -> dict[str, Any]:
    first = {"SpecialToken": {"id": bos, "type_id": 0}}
    single = [first, {"Sequence": {"id": "A", "type_id": 0}}]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {bos: {"id": bos, "ids": [id], "tokens": [bos]}},
    }


def _some(ids: list[Any]) -> str:
    return str(ids) if len(ids) <= 12 else f"{str(ids[:12])[:-1]}, ...]"
