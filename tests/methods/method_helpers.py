"""What tests of methods share: a format of characters, and what a run has made."""

from types import SimpleNamespace

from selfevo_jax.data import MetaRow

END = (2,)
META = (MetaRow("m", "p", "r", "f", "better", False),)


class Layout:
    """A format of characters; the id 2 ends a text, and 3 is drawn behind one that ends otherwise."""

    end = END

    def respond(self, prompt):
        return [1, *map(ord, prompt)]

    def ends(self, end):
        return tuple(end) == END

    def judge(self, so_far, text=None):
        return [*so_far, *END, ord("J")]

    def refine(self, so_far):
        return [*so_far, *END, ord("R")]

    def continuation(self, so_far, text):
        return list(map(ord, text))


def made(*rounds, meta=META, qa=()):
    """Rollouts of each round, from 1 on, and rows of D_meta and D_QA."""
    return SimpleNamespace(
        format=Layout(), rollouts=lambda n: rounds[n - 1], meta_rows=lambda: list(meta), qa_rows=lambda: list(qa)
    )
