"""Small tokenizers, trained on the fly: SentencePiece (BPE with bytes, unigram), byte-level and metaspace files."""

import json
import random

import pytest
import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from selfevo_jax.text import load_tokenizer

_TEXT = "the answer is apple apples Question Feedback Revision Verdict correct incorrect finds sells has now How many"
WORDS = _TEXT.split()
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system role') }}"
    "{% endif %}{{ '<|im_start|>' + m['role'] + '\n' + (m['content'] | trim) + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'].strip() + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}"
    "{% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}"
)


def corpus():
    rng = random.Random(0)
    lines = [" ".join(rng.choices(WORDS, k=9)) + "." for _ in range(200)]
    return [
        *lines,
        *(str(rng.randrange(1000)) for _ in range(50)),
        "$ % / \\ { } [ ] # - + = : ; ! ? ( ) , ' \" < > | _",
    ]


def train_sentencepiece(path, **options):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()),
        model_prefix=str(path.with_suffix("")),
        minloglevel=9,
        num_threads=1,
        character_coverage=1.0,
        **options,
    )
    return path


def write_json(folder, tok, **config):
    folder.mkdir(parents=True, exist_ok=True)
    tok.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def byte_level(specials):
    tok = tokenizers.Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tok.train_from_iterator(
        corpus(),
        trainers.BpeTrainer(vocab_size=380, special_tokens=specials, initial_alphabet=alphabet, show_progress=False),
    )
    return tok


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Name -> folder of each tokenizer."""
    root = tmp_path_factory.mktemp("tokenizers")
    made = {name: root / name for name in ("sp_bpe", "sp_unigram", "bytes", "chatml", "no_system", "metaspace")}
    for folder in made.values():
        folder.mkdir()
    identity = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}
    bpe = train_sentencepiece(
        made["sp_bpe"] / "tokenizer.model", model_type="bpe", vocab_size=380, byte_fallback=True, **identity
    )
    config = {"chat_template": LLAMA2, "bos_token": "<s>", "eos_token": {"content": "</s>"}}
    (made["sp_bpe"] / "tokenizer_config.json").write_text(json.dumps(config))
    train_sentencepiece(made["sp_unigram"] / "small.model", model_type="unigram", vocab_size=100)

    plain = byte_level(["<|endoftext|>"])
    write_json(made["bytes"], plain, eos_token="<|endoftext|>")
    chat = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    write_json(made["chatml"], chat, bos_token="<|im_start|>", eos_token="<|im_end|>", chat_template=CHATML)
    (made["chatml"] / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    with_bos = byte_level(["<bos>", "<|im_start|>", "<|im_end|>"])
    with_bos.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    write_json(made["no_system"], with_bos, bos_token="<bos>", eos_token="<|im_end|>")
    (made["no_system"] / "chat_template.jinja").write_text(NO_SYSTEM)

    sp = sentencepiece.SentencePieceProcessor(model_file=str(bpe))
    pieces = [sp.id_to_piece(i) for i in range(sp.vocab_size())]
    merges = []
    vocab = {piece: i for i, piece in enumerate(pieces)}
    for piece in pieces[259:]:  # the control, unknown and byte pieces come first, then the merged ones by rank
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        merges += [cut for cut in cuts if cut[0] in vocab and cut[1] in vocab]
    meta = tokenizers.Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    meta.add_special_tokens(["<unk>", "<s>", "</s>"])
    meta.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    meta.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    meta.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    write_json(made["metaspace"], meta, bos_token="<s>", eos_token="</s>", chat_template=LLAMA2)
    return made


@pytest.fixture(scope="session")
def loaded(folders):
    """Name -> tokenizer."""
    return {name: load_tokenizer(folder) for name, folder in folders.items()}


@pytest.fixture(scope="session")
def sp_bare(tmp_path_factory):
    """A SentencePiece model that puts no space before a text."""
    options = {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "add_dummy_prefix": False}
    path = tmp_path_factory.mktemp("bare") / "tokenizer.model"
    return load_tokenizer(train_sentencepiece(path, model_type="bpe", vocab_size=380, byte_fallback=True, **options))
