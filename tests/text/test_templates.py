"""Chat templates run in a sandbox: what Hugging Face templates use works, what does harm is refused."""

import time

import pytest

from selfevo_jax.errors import ModelError
from selfevo_jax.text import ChatTemplate, templates

USER = [{"role": "user", "content": 'é "quoted" <b>'}]


def render(source, messages=USER, **variables):
    (found,) = ChatTemplate(source, "some/model", variables).render(messages)
    if isinstance(found, ModelError):
        raise found
    return found


def test_helpers_of_hugging_face_templates_work():
    assert render("{{ messages | tojson }}") == '[{"role": "user", "content": "é \\"quoted\\" <b>"}]'
    assert render("{{ {'a': 1} | tojson(indent=2) }}") == '{\n  "a": 1\n}'
    assert render("{% for m in messages %}{{ m.content }}{% break %}{% endfor %}") == USER[0]["content"]
    assert render("{% generation %}a{% endgeneration %}b") == "ab"
    assert render("{{ bos_token }}{{ eos_token }}", bos_token="<s>", eos_token="</s>") == "<s></s>"
    assert render("  {% if add_generation_prompt %}\nx\n  {% endif %}\n") == "x\n"


def test_tools_and_documents_are_none_as_in_transformers():
    source = "{% if tools is not none %}tools{% endif %}{% if documents is not none %}documents{% endif %}"
    assert render(source + "{{ tools is defined }}{{ xml_tools is defined }}") == "TrueFalse"
    assert render("{{ tools[0] }}", tools=["now"]) == "now"


def test_settings_of_the_template_reach_it():
    source = (
        "{% if enable_thinking is defined and enable_thinking is false %}no {% endif %}thinking{{ level | tojson }}"
    )
    assert render(source, enable_thinking=False, level=[1, {"a": None}]) == 'no thinking[1, {"a": null}]'
    assert render(source, level=None) == "thinkingnull"


@pytest.mark.parametrize(
    "source",
    [
        "{{ dict(a=1) | tojson(separators=(',', ':')) }}{{ {'b': 1, 'a': 2} | tojson(sort_keys=True) }}",
        "{{ dict.fromkeys(['a', 'b'], 0) | tojson }}",
        "{% set ns = namespace(n=1) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "{% set ns = namespace(dict(a=1), self=2) %}{{ ns.a }}{{ ns.self }}",
        "{{ tools }}{{ documents }}{{ add_generation_prompt }}{{ bos_token }}{{ pad_token is defined }}",
        "{% generation %}{{ messages[0].content | trim }}{% endgeneration %}{{ eos_token }}",
    ],
)
def test_what_a_template_prints_is_what_it_prints_in_transformers(source):
    reference = pytest.importorskip("transformers.utils.chat_template_utils")
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    found, _ = reference.render_jinja_template([USER], chat_template=source, add_generation_prompt=True, **tokens)
    assert render(source, **tokens) == found[0]


def test_the_date_is_the_same_every_day():
    assert render("{{ strftime_now('%d %b %Y') }}") == "26 Jul 2024"


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[0].nothing.more }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace(_a=1) %}",
        "{{ dict.mro() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{{ 'a' * 100000000 }}",
        "{{ 9 ** 99999999 }}",
        "{{ '%99999999d' % 1 }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(2000) %}{{ 'a' * 1000 }}{% endfor %}",
        "{% set ns = namespace(s='a') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{{ 'x'.ljust(10 ** 12) }}",
        "{{ 'x' | center(10 ** 12) }}",
        "{{ '{:>1000000000000}'.format(1) }}",
        "{{ '%9999999999d' | format(1) }}",
        "{{ 'a\nb' | indent(10 ** 10) }}",
        "{{ {'a': 1} | tojson(indent=10 ** 9) }}",
        "{% set a = 'x' * 3000 %}{% for i in a %}{% for j in a %}{% for k in a %}{% endfor %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(n=9) %}{% for i in range(60) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    ],
)
def test_what_fails_or_does_harm_is_refused_by_name_and_soon(source, monkeypatch):
    monkeypatch.setattr(templates, "CPU_SECONDS", 1)
    start = time.monotonic()
    with pytest.raises(ModelError, match="some/model"):
        render(source)
    assert time.monotonic() - start < templates.SECONDS + 2


def test_the_clock_stops_what_the_processor_does_not(monkeypatch):
    monkeypatch.setattr(templates, "SECONDS", 0.5)
    with pytest.raises(ModelError, match=r"some/model: .* stopped: it takes more than 0\.5 s"):
        render("{{ 9 ** 99999999 }}")


def test_one_refusal_leaves_the_other_conversations():
    source = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}fine"
    refused, text = ChatTemplate(source, "some/model").render([{"role": "system", "content": "x"}], USER)
    assert isinstance(refused, ModelError)
    assert str(refused) == "some/model: the chat template refuses the turns (system): no system role"
    assert text == "fine"


@pytest.mark.parametrize("source", ["{% if %}", "{{", "x" * 300_000, "{{ " + "(" * 50_000, "{{ " + "not " * 40_000])
def test_templates_that_cannot_be_read_are_refused_by_name(source):
    with pytest.raises(ModelError, match="some/model"):
        render(source)


def test_nothing_of_the_folder_one_works_in_is_imported(tmp_path, monkeypatch):
    (tmp_path / "jinja2.py").write_text("raise SystemExit('imported')")
    (tmp_path / "json.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert render("a") == "a"


def test_the_refusal_says_what_the_template_said():
    with pytest.raises(ModelError, match=r"\(user\): roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")
