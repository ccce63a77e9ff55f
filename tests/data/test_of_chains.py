"""Examples of both answers of a chain, and of an answer with a teacher that has seen the feedback on it."""

import numpy as np
import pytest

from selfevo_jax.data import feedback_context, hindsight_example, taught_example


class Fmt:
    """Words are numbers: prompt 10, judge (0, 20), refine (0, 30), end 0; a written text is its length."""

    end = (0,)

    def respond(self, prompt):
        return [10]

    def judge(self, so_far):
        return [*so_far, 0, 20]

    def refine(self, so_far):
        return [*so_far, 0, 30]

    def continuation(self, so_far, text):
        return [len(text)]


WORSE, FEEDBACK, BETTER, END = (1, 2), (5, 6), (3,), (0,)


def laid(example):
    return example.tokens.tolist(), example.weights.tolist()


@pytest.mark.parametrize("weight", [1.0, 0.5, 0.0])
def test_a_worse_and_a_better_answer_lie_in_one_sequence_behind_words_that_say_which_they_are(weight):
    made = hindsight_example("a", "p", WORSE, BETTER, END, Fmt(), markers=("bad", "good"), worse_weight=weight)
    assert laid(made) == ([10, 3, 1, 2, 0, 4, 3, 0], [0, 0, weight, weight, weight, 0, 1, 1])


def test_the_end_of_a_worse_answer_that_the_model_did_not_end_is_read_and_not_learnt():
    made = hindsight_example("a", "p", WORSE, BETTER, END, Fmt(), markers=("bad", "good"), worse_ends=False)
    assert laid(made) == ([10, 3, 1, 2, 0, 4, 3, 0], [0, 0, 1, 1, 0, 0, 1, 1])


def test_with_the_feedback_they_lie_as_in_the_chain_and_neither_it_nor_instructions_are_learnt():
    made = hindsight_example("a", "p", WORSE, BETTER, END, Fmt(), feedback=FEEDBACK, worse_weight=0.5)
    context = feedback_context("p", WORSE, FEEDBACK, Fmt())
    assert context == [10, 1, 2, 0, 20, 5, 6, 0, 30]
    assert laid(made) == ([*context, 3, 0], [0, 0.5, 0.5, *[0] * 6, 1, 1])


def test_an_answer_without_an_end_of_its_own_is_taught_none():
    made = hindsight_example("a", "p", WORSE, BETTER, (), Fmt(), feedback=FEEDBACK)
    assert made.tokens[-1] == 3


def test_a_teacher_reads_the_same_answer_behind_the_feedback_on_it():
    context = feedback_context("p", WORSE, FEEDBACK, Fmt())
    made = taught_example("a", "p", WORSE, END, context, Fmt())
    assert laid(made) == ([10, 1, 2, 0], [0, 1, 1, 1])
    assert laid(made.teacher) == ([*context, 1, 2, 0], [*[0] * len(context), 1, 1, 1])
    np.testing.assert_array_equal(made.targets, made.teacher.targets)
