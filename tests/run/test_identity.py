"""What may differ when a run goes on."""

from selfevo_jax.config import parse_config
from selfevo_jax.run.artefacts import artefacts, inputs
from selfevo_jax.run.identity import config_differences, identity

SERVER = {"url": "http://127.0.0.1:1/v1", "model": "big"}


def asking(**server: object):
    endpoint = SERVER | server
    judge = {"batch": {"kind": "endpoint", "endpoint": endpoint}}
    open_ended = {"o": {"source": "p.jsonl", "endpoint": endpoint}}
    data = {"stories": {}, "open_ended": open_ended}
    return parse_config({"run_dir": "x", "model": {"source": "m"}, "data": data, "judge": judge})


def test_a_run_goes_on_with_its_server_at_another_address_or_asked_at_another_pace() -> None:
    before = asking()
    moved = asking(url="https://other/v1", key_variable="MINE", concurrency=2, retries=3, answer_seconds=9.0)
    assert config_differences(before, moved) == []
    assert identity(before, {}) == identity(moved, {})
    for artefact in artefacts(before):
        assert artefact.rests_on(inputs(before)) == artefact.rests_on(inputs(moved))


def test_another_model_behind_a_server_or_other_sampling_is_another_run() -> None:
    for change in ({"model": "bigger"}, {"temperature": 1.0}, {"max_tokens": 9}):
        changed = config_differences(asking(), asking(**change))
        (key,) = change
        assert [one.partition(":")[0] for one in changed] == [
            f"judge.batch.endpoint.{key}",
            f"data.open_ended.o.endpoint.{key}",
        ]
