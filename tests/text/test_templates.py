"""Chat templates run in a sandbox: what Hugging Face templates use works, what does harm is refused."""

import pytest

from selfevo_jax.errors import ModelError
from selfevo_jax.text import ChatTemplate

USER = [{"role": "user", "content": 'é "quoted" <b>'}]


def render(source, messages=USER, **variables):
    return ChatTemplate(source, "some/model", variables).render(messages)


def test_helpers_of_hugging_face_templates_work():
    assert render("{{ messages | tojson }}") == '[{"role": "user", "content": "é \\"quoted\\" <b>"}]'
    assert render("{{ {'a': 1} | tojson(indent=2) }}") == '{\n  "a": 1\n}'
    assert render("{% for m in messages %}{{ m.content }}{% break %}{% endfor %}") == USER[0]["content"]
    assert render("{% generation %}a{% endgeneration %}b") == "ab"
    assert render("{{ bos_token }}{{ eos_token }}", bos_token="<s>", eos_token="</s>") == "<s></s>"
    assert render("  {% if add_generation_prompt %}\nx\n  {% endif %}\n") == "x\n"


def test_the_date_is_the_same_every_day():
    assert render("{{ strftime_now('%d %b %Y') }}") == "26 Jul 2024"


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[0].nothing.more }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{{ 'a' * 100000000 }}",
        "{{ 9 ** 99999999 }}",
        "{{ '%99999999d' % 1 }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(2000) %}{{ 'a' * 1000 }}{% endfor %}",
    ],
)
def test_what_fails_or_does_harm_is_refused_by_name(source):
    with pytest.raises(ModelError, match="some/model"):
        render(source)


@pytest.mark.parametrize("source", ["{% if %}", "{{", "x" * 300_000])
def test_templates_that_cannot_be_read_are_refused_by_name(source):
    with pytest.raises(ModelError, match="some/model"):
        ChatTemplate(source, "some/model")


def test_the_refusal_says_what_the_template_said():
    with pytest.raises(ModelError, match=r"\(user\): roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")
