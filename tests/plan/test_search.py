"""The candidates of a search, and their order."""

import dataclasses

import pytest
from plan_helpers import compiled, tiny_config

from selfevo_jax.plan import search
from selfevo_jax.plan.chips import CHIPS, Topology
from selfevo_jax.plan.compiled import Compiled, Refusal


def test_candidates_begin_with_the_configs_own_and_divide_the_devices():
    found = search.candidates(tiny_config(), 8)
    assert found[0] == search.Candidate((1, 8, 1), 16, "none")
    assert len(found) == len(set(found))
    for candidate in found:
        data, fsdp, tensor = candidate.mesh
        assert data * fsdp * tensor == 8
        assert candidate.batch_rows % (data * fsdp) == 0
    assert {c.mesh for c in found} >= {(1, 8, 1), (1, 4, 2), (2, 4, 1), (8, 1, 1)}
    assert {c.batch_rows for c in found} == {8, 16, 32, 64}
    assert {c.remat for c in found} == {"none", "minimal", "full"}


def test_overrides_say_what_to_put_into_the_config():
    assert search.Candidate((1, 4, 2), 32, "full").overrides() == {
        "mesh.data": 1,
        "mesh.fsdp": 4,
        "mesh.tensor": 2,
        "learn.batch_rows": 32,
        "learn.remat": "full",
    }


def test_ctrl_c_ends_a_search_with_what_it_has(monkeypatch):
    topology = Topology("v5e:2x4", CHIPS["v5e"], (2, 4), 1, tuple(range(8)))
    monkeypatch.setattr(search, "_try", lambda config, where, candidate, options: search.Tried(candidate, compiled()))

    def interrupt(at):
        def before(done, *_):
            if done == at:
                raise KeyboardInterrupt

        return search.search(tiny_config(), topology, most=5, on_compile=before)

    assert len(interrupt(2)) == 2
    with pytest.raises(KeyboardInterrupt):
        interrupt(0)


def test_what_needs_more_than_what_did_not_fit_is_passed_over(monkeypatch):
    topology = Topology("v5e:2x4", CHIPS["v5e"], (2, 4), 1, tuple(range(8)))

    def fake(config, where, candidate, options):
        refused = Refusal(20, 10, "too large") if candidate.remat == "minimal" and candidate.batch_rows >= 16 else None
        return search.Tried(candidate, dataclasses.replace(compiled(rows=candidate.batch_rows), refusal=refused))

    monkeypatch.setattr(search, "_try", fake)
    found = search.search(tiny_config(learn={"remat": "minimal", "batch_rows": 16}), topology, most=500)
    tried = {t.candidate for t in found if t.candidate.mesh == (1, 8, 1)}
    passed_over = {c for c in search.candidates(tiny_config(), 8) if c.mesh == (1, 8, 1)} - tried
    assert search.Candidate((1, 8, 1), 16, "minimal") in tried
    assert {(c.batch_rows, c.remat) for c in passed_over} == {
        (rows, remat) for rows in (16, 32, 64) for remat in ("none", "minimal") if (rows, remat) != (16, "minimal")
    }


def test_what_fits_comes_first_and_the_fastest_of_it_first_of_all(monkeypatch):
    topology = Topology("v5e:2x4", CHIPS["v5e"], (2, 4), 1, tuple(range(8)))

    def fake(config, where, candidate, options):
        if candidate.mesh == (1, 8, 1):
            refused = Refusal(20, 10, "too large")
            return search.Tried(candidate, Compiled(compiled().program, 0.0, refusal=refused))
        if candidate.mesh == (8, 1, 1):
            return search.Tried(candidate, None, "does not divide")
        done = compiled(1.0 if candidate.mesh == (2, 4, 1) else 2.0, rows=candidate.batch_rows)
        return search.Tried(candidate, done)

    monkeypatch.setattr(search, "_try", fake)
    seen = []
    found = search.search(tiny_config(), topology, most=10, on_compile=lambda *call: seen.append(call))
    assert len(found) == len(seen) == 10
    assert [call[0] for call in seen] == list(range(10))
    fitting = [t for t in found if t.fits]
    assert found[: len(fitting)] == fitting
    speeds = [t.tokens_per_second for t in fitting]
    assert speeds == sorted(speeds, reverse=True)
    assert all(t.candidate.mesh != (1, 8, 1) for t in fitting)
