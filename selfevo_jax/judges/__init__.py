"""What the loop, or an evaluation, believes of an answer: one small file for each kind."""

from selfevo_jax.judges.endpoint import Answer, EndpointSection, Question, ask_endpoint
from selfevo_jax.judges.pairwise import (
    PAIR_VERDICTS,
    SIDES,
    Judgement,
    Pair,
    PairPrompt,
    PairVerdict,
    mt_bench_pair,
    read_pair_verdict,
)

__all__ = [
    "PAIR_VERDICTS",
    "SIDES",
    "Answer",
    "EndpointSection",
    "Judgement",
    "Pair",
    "PairPrompt",
    "PairVerdict",
    "Question",
    "ask_endpoint",
    "mt_bench_pair",
    "read_pair_verdict",
]
