"""A byte-piece tokenizer, a small random model, and a model that follows a script, for the tests of `sample/`."""

import codecs
import dataclasses
import functools
import itertools
import json
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from random_params import random_params as drawn_params

from selfevo_jax.chains import RefineChain, StageParams
from selfevo_jax.judges import ChainJudge
from selfevo_jax.model import ModelConfig, Transformer, abstract_params
from selfevo_jax.sample import Completion, DrawKey, Engine, Request, SamplingParams

PAD, BOS, EOS, END = 0, 1, 2, 3
CONTROLS = (PAD, BOS, EOS, END)
_LETTERS = [chr(97 + i).encode() for i in range(26)]
_EMOJI = "🙂".encode()
PIECES = [b""] * 4 + [*_LETTERS, b" ", b"\n", b"\nQ", b"uestion:", b"Question", b":", _EMOJI[:2], _EMOJI[2:], b"ab"]
PIECES += [bytes([65 + i]) for i in range(64 - len(PIECES))]
VOCAB = len(PIECES)


class ByteTokenizer:
    vocab_size = VOCAB

    def decode(self, ids):
        return b"".join(PIECES[i] for i in ids).decode("utf-8", errors="ignore")

    def token_bytes(self, id):
        return PIECES[id]


class ByteStream:
    def __init__(self, tokenizer):
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id):
        return self._decoder.decode(PIECES[id])

    def finish(self):
        pending = self._decoder.getstate()[0]
        return "", not pending


CONFIG = ModelConfig(VOCAB, 32, 2, 4, 2, 8, 64, max_position=256)
SHALLOW = dataclasses.replace(CONFIG, n_layers=1)
"""For tests of what is put together, not of what a model computes: half of the layers to compile."""


def random_params(seed=0, scale=0.12, config=CONFIG):
    """Wide enough that the distribution is neither flat nor a point."""
    return drawn_params(config, seed, scale)


def engine(slots=4, cache_length=64, config=CONFIG, **kw):
    """Few shapes, so that few programs are compiled; a test of shapes names its own."""
    kw = {"extend_rows": (slots,), "extend_lengths": (32,), **kw}
    return Engine(config, ByteTokenizer(), slots=slots, cache_length=cache_length, stream=ByteStream, **kw)


def requests(n, seed=0, **params):
    """Prompts of random lengths, the keys of two samples in turn."""
    rng = np.random.default_rng(seed)
    return [
        Request(
            (BOS, *rng.integers(4, VOCAB, int(rng.integers(0, 30))).tolist()),
            SamplingParams(**{"max_new_tokens": int(rng.integers(1, 20)), "stop_ids": (EOS, 9), **params}),
            DrawKey(1, "respond", f"p{i}", i % 2),
        )
        for i in range(n)
    ]


class Requests:
    """The chain of a list of requests; `got` are their completions."""

    def __init__(self, id, *rows):
        self.id, self.rows, self.got = str(id), rows, ()
        self.asked = self.ended = False

    def next(self, last):
        assert not self.ended, f"chain {self.id} was asked again after its end"
        assert (last is None) == (not self.asked), f"chain {self.id} lost a completion, or got one too many"
        if last is not None:
            self.got = (*self.got, last)
        self.ended = len(self.got) == len(self.rows)
        self.asked = True
        return None if self.ended else self.rows[len(self.got)]


@dataclass
class Verdict:
    good: bool | None
    rating: float | None = None
    end: int | None = None


class Reader(ChainJudge):
    """A judge whose texts a function reads; of several the first one counts."""

    def __init__(self, read, texts=1):
        self._reader, self._texts = read, texts

    @property
    def asks(self):
        return (None,) * self._texts

    def joined(self, read):
        return read[0]

    def read(self, feedback):
        return self._reader(feedback)


class Format:
    def respond(self, prompt):
        return [BOS, *ids(prompt)]

    def judge(self, so_far, text=None):
        return [*so_far, 60, 61]

    def refine(self, so_far):
        return [*so_far, 62]


def self_chains(n, temperature):
    """Chains of a random model in which most responses are judged, refined and judged again: its feedback ends at any
    of many letters, and of what it then says only the length counts."""
    short = SamplingParams(temperature=temperature, max_new_tokens=6, stop_ids=(EOS,))
    feedback = SamplingParams(temperature=temperature, max_new_tokens=10, stop_strings=tuple("abcdefghijklmnopqrst"))
    return [
        RefineChain(
            f"p{i}",
            "abcdefgh"[: 2 + i % 6],
            Format(),
            StageParams(short, feedback, short),
            ByteTokenizer().decode,
            judge=Reader(lambda text: Verdict(len(text) % 4 == 3), 1 + i % 2),
            sample=i % 2,
        )
        for i in range(n)
    ]


def told(engine, params, temperature, order=None):
    """What an engine makes of 11 requests and 9 whole chains, given to it in some order, as plain JSON values in the
    order of the requests and chains; without log-probabilities, whose last bits depend on the batch."""
    rows, chains = requests(11, temperature=temperature), self_chains(9, temperature)
    order = np.arange(20) if order is None else order
    first, second = [i for i in order if i < 11], [i - 11 for i in order if i >= 11]
    got = dict(zip(first, engine.generate(params, [rows[i] for i in first]), strict=True))
    engine.run(params, [chains[i] for i in second])
    return plain([got[i] for i in range(11)], chains)


def plain(completions, chains):
    """Completions and the rollouts of chains as JSON values."""
    texts = [[c.tokens, c.text, c.finish] for c in completions]
    return json.loads(json.dumps([texts, [chain.result.to_dict() for chain in chains]]))


@functools.cache
def _forward():
    model = Transformer(CONFIG)

    def last_logits(params, tokens, n):
        index = jnp.arange(tokens.shape[1])[None]
        segments = (index < n).astype(jnp.int32)
        return model.apply({"params": params}, tokens, index, segment_ids=segments)[0][0, n - 1]

    return jax.jit(last_logits)


def naive(params, prompt, n_new, stop_ids=(), pick=None, length=96):
    """The plain loop: the whole uncached forward for each token. pick(logits, i) -> token; greedy by default."""
    tokens, made, logprobs = list(prompt), [], []
    for i in range(n_new):
        padded = np.zeros((1, length), np.int32)
        padded[0, : len(tokens)] = tokens
        logits = np.asarray(_forward()(params, padded, len(tokens)), np.float64)
        token = int(np.argmax(logits)) if pick is None else pick(logits, i)
        if token in stop_ids:
            return made, logprobs, "stop"
        top = logits.max()
        logprobs.append(logits[token] - top - np.log(np.exp(logits - top).sum()))
        made.append(token)
        tokens.append(token)
    return made, logprobs, "length"


def scripted(*scripts):
    """(config, params) of a model whose next token is a function of the last one: each script is a run of tokens."""
    config = ModelConfig(VOCAB, VOCAB, 1, 2, 2, 32, 8, max_position=128, tie_embeddings=False)
    params = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), abstract_params(config))
    head = np.zeros((VOCAB, VOCAB), np.float32)
    for script in scripts:
        for a, b in itertools.pairwise(script):
            head[a, b] = 10.0
    params["embedding"] = np.eye(VOCAB, dtype=np.float32)
    params["head"]["kernel"] = head
    params["layers_0"]["attention"]["o"]["kernel"][:] = 0
    params["layers_0"]["mlp"]["down"]["kernel"][:] = 0
    return config, jax.tree.map(jnp.asarray, params)


def ids(text):
    """Tokens of a text, one byte piece at a time (single letters, space, newline)."""
    return [PIECES.index(c.encode()) for c in text]


def answered(chain, texts, finish="stop"):
    """The requests of a chain whose answers are these texts (or completions), one after another."""
    requests, last = [], None
    for text in [*texts, None]:
        request = chain.next(last)
        if request is None:
            break
        assert text is not None, "the chain asks for more than the script holds"
        requests.append(request)
        if isinstance(text, Completion):
            last = text
        else:
            tokens = tuple(ids(text)) if text.isalpha() else (5,)
            last = Completion(tokens, text, (-0.5,) * len(tokens), finish)
    return requests
