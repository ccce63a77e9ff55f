"""MLflow, by a client in its place that keeps what it is given and has the limits of the real one."""

import re
import sys
from collections import namedtuple
from types import SimpleNamespace

from tracker_helpers import EVENTS, about, section, told

from selfevo_jax.trackers import Scalars, Settings, Texts

Metric = namedtuple("Metric", "key value timestamp step")
Param = namedtuple("Param", "key value")
RunTag = namedtuple("RunTag", "key value")


class Server:
    """One experiment with its runs; the next `fails` requests fail."""

    def __init__(self) -> None:
        self.runs: list = []
        self.metrics: list[Metric] = []
        self.files: dict[str, str] = {}
        self.requests: list[int] = []
        self.fails = 0

    def MlflowClient(self, tracking_uri):
        self.uri = tracking_uri
        return self

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id="7") if name == "known" else None

    def create_experiment(self, name):
        return "8"

    def search_runs(self, experiments, text):
        wanted = re.fullmatch(r"tags\.`selfevo\.run` = '(\w+)'", text)[1]
        return [run for run in self.runs if run.data.tags["selfevo.run"] == wanted]

    def create_run(self, experiment, tags, run_name):
        data = SimpleNamespace(tags=dict(tags), params={})
        self.runs.append(SimpleNamespace(info=SimpleNamespace(run_id=run_name, experiment_id=experiment), data=data))
        return self.runs[-1]

    def log_batch(self, id, metrics=(), params=(), tags=()):
        if self.fails:
            self.fails -= 1
            raise ConnectionError
        assert len(metrics) <= 1000
        assert len(params) <= 100
        data = self.runs[0].data
        for key, value in params:
            assert re.fullmatch(r"[\w\-. /]+", key)
            assert data.params.setdefault(key, value) == value, "MLflow lets no parameter change"
        assert all(re.fullmatch(r"[\w\-. /]+", metric.key) for metric in metrics)
        data.tags |= dict(tags)
        self.metrics += metrics
        self.requests.append(len(metrics))

    def log_text(self, id, text, file):
        self.files[file] = text

    def set_terminated(self, id):
        self.ended = id


def server(monkeypatch) -> Server:
    found = Server()
    found.entities = SimpleNamespace(Metric=Metric, Param=Param, RunTag=RunTag)
    monkeypatch.setitem(sys.modules, "mlflow", found)
    return found


def tracker(experiment="known"):
    return section({"kind": "mlflow", "uri": "http://127.0.0.1:1", "experiment": experiment}).open("track.0")


def test_what_a_killed_process_has_sent_is_not_sent_again(monkeypatch, tmp_path) -> None:
    there = server(monkeypatch)
    assert told(tracker(), tmp_path, 4) == 0
    assert told(tracker(), tmp_path) == 4
    assert told(tracker(), tmp_path) == len(EVENTS)
    wanted = [event for event in EVENTS if isinstance(event, Scalars)]
    assert [(m.key, m.value, m.step) for m in there.metrics] == [
        (key, value, event.at) for event in wanted for key, value in event.values.items()
    ]
    assert there.runs[0].data.params == {"seed": "1", "model.source": "builtin:stories", "mesh.data": "None"}
    assert there.files["round-1/chains/1.txt"] == EVENTS[6].values["chains/1"]
    assert (len(there.runs), there.runs[0].info.experiment_id, there.ended) == (1, "7", "mine")


def test_a_key_of_the_users_own_is_shown_with_the_letters_that_a_server_takes(monkeypatch, tmp_path) -> None:
    there = server(monkeypatch)
    for _ in range(2):
        mine = tracker()
        mine.start(about(tmp_path))
        mine.settings([Settings({"format.template.to what?": "x" * 9000, "judge.settings.größe": 1})])
    params = there.runs[0].data.params
    assert (len(params["format.template.to what_"]), params["judge.settings.größe"]) == (6000, "1")


def test_the_texts_of_a_round_stay_when_the_next_one_has_some(monkeypatch, tmp_path) -> None:
    there = server(monkeypatch)
    mine = tracker()
    mine.start(about(tmp_path))
    mine.texts([Texts(n, {"chains/1": f"of round {n}"}) for n in (1, 2)])
    assert sorted(there.files.values()) == ["of round 1", "of round 2"]


def test_a_request_that_fails_counts_nothing(monkeypatch, tmp_path) -> None:
    there = server(monkeypatch)
    mine = tracker("new")
    mine.start(about(tmp_path))
    mine.settings(EVENTS[:1])
    there.fails = 1
    try:
        mine.scalars(EVENTS[1:2])
    except ConnectionError:
        assert tracker("new").start(about(tmp_path)) == 1


def test_many_figures_go_in_requests_that_a_server_takes(monkeypatch, tmp_path) -> None:
    there = server(monkeypatch)
    mine = tracker()
    mine.start(about(tmp_path))
    mine.scalars([Scalars("step", n, {f"a/{key}, {n}": 1.0 for key in range(7)}) for n in range(300)])
    assert sum(there.requests) == 2100
    assert there.requests == [994, 994, 112]
    assert there.runs[0].data.tags["selfevo.events"] == "300"
