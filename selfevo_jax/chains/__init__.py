"""Chains: what is asked about a prompt, turn by turn, in one slot of the sampler."""

from selfevo_jax.chains.base import ChainFormat, Generated, StageParams, Turns, until
from selfevo_jax.chains.judging import Judgement, judging, words_notice
from selfevo_jax.chains.refine import RefineChain
from selfevo_jax.chains.trace import CUT, Candidate, Feedback, Rollout, choose, feedback_record
from selfevo_jax.chains.variants import RefinementsChain, TwoAnswersChain

__all__ = [
    "CUT",
    "Candidate",
    "ChainFormat",
    "Feedback",
    "Generated",
    "Judgement",
    "RefineChain",
    "RefinementsChain",
    "Rollout",
    "StageParams",
    "Turns",
    "TwoAnswersChain",
    "choose",
    "feedback_record",
    "judging",
    "until",
    "words_notice",
]
