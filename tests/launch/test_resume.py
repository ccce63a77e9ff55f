"""resume and watch: a node that is taken away comes back with the same request, source, config and arguments."""

import tarfile

import pytest

PREEMPTED = "PREEMPTED\tUNHEALTHY_TPU"


def named(calls):
    return [" ".join(call[2:4]) for call in calls if "describe" not in call]


@pytest.fixture
def taken(cloud):
    """An installed TPU with a run, whose node was then preempted, and with it all that was on it."""
    (cloud.root / "desk" / "config.yaml").write_text("run_dir: gs://b/r\n")
    cloud.installed()
    cloud.running()
    cloud.started_with = cloud.starts()[0]
    (cloud.root / "desk" / "config.yaml").write_text("changed: since\n")
    cloud.control(node=PREEMPTED)
    cloud.forget_calls()
    return cloud


def test_resume_makes_it_again_and_starts_the_same_run(taken):
    assert "resume" in taken.tpu("status", code=6).stderr + taken.tpu("run", "config.yaml", code=6).stderr
    taken.forget_calls()
    taken.tpu("resume")
    asked = named(taken.calls())
    assert asked == [
        "queued-resources delete",
        "queued-resources create",
        "tpu-vm ssh",  # a folder
        "tpu-vm scp",
        "tpu-vm ssh",  # install
        "tpu-vm scp",
        "tpu-vm ssh",  # start
    ]
    (create,) = taken.calls("queued-resources create")
    assert {"--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite", "--spot"} <= set(create)
    for worker in (0, 1):
        assert taken.ended(worker) == "0"
        assert [start[2:] for start in taken.starts(worker)] == [["run_dir=gs://b/r"]]
        assert (taken.home(worker) / "selfevo/self-1.yaml").read_text() == "run_dir: gs://b/r\n"
        assert "selfevo-jax[tpu,gcs]==0.1.0" in (taken.home(worker) / "pip.log").read_text()


@pytest.mark.parametrize("state", ["SUSPENDED", "FAILED", "DELETED"])
def test_resume_after_other_ends_of_a_request(taken, state):
    taken.queue(state)
    if state == "DELETED":
        (taken.root / "queue.json").unlink()
    taken.tpu("resume")
    assert ("queued-resources delete" in named(taken.calls())) is (state != "DELETED")
    assert taken.ended() == "0"


def test_resume_waits_for_a_request_that_is_still_in_the_queue(taken):
    taken.tpu("delete", "--yes")
    taken.control(queue=["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
    taken.tpu("create", "--accelerator", "v5litepod-16", "--wait-minutes", "0")
    taken.forget_calls()
    taken.tpu("resume")
    assert "queued-resources create" not in named(taken.calls())
    assert taken.ended() == "0"


def test_resume_leaves_a_run_alone_that_is_alive(taken):
    taken.control(node="READY\tHEALTHY")
    assert "nothing to resume" in taken.tpu("resume").stderr
    assert len(taken.starts()) == 1


def test_resume_on_a_good_node_only_starts(cloud):
    cloud.installed()
    cloud.codes(75)
    cloud.run("--max-restarts", "0")
    cloud.ended()
    cloud.ended(1)
    cloud.forget_calls()
    cloud.tpu("resume")
    assert not cloud.calls("remote.sh install")
    assert cloud.starts()[0] == cloud.starts()[1]


def test_resume_of_a_local_tree_ships_the_tree_of_then(cloud, tmp_path):
    cloud.installed()
    packed = cloud.root / "desk/.selfevo-launch/self-1.source.tar.gz"
    (tmp_path / "data.txt").write_text("of then")
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(tmp_path / "data.txt", "data.txt")
    state = cloud.root / "desk/.selfevo-launch/self-1.env"
    state.write_text(state.read_text().replace("SOURCE=0.1.0", "SOURCE=/gone"))
    cloud.run()
    cloud.ended()
    cloud.control(node=PREEMPTED)
    cloud.tpu("resume")
    assert (cloud.home() / "selfevo/source/data.txt").read_text() == "of then"


def test_resume_needs_what_create_install_and_run_remember(cloud):
    assert "remembers no ACCELERATOR" in cloud.tpu("resume", code=2).stderr
    cloud.installed()
    assert "start one with run" in cloud.tpu("resume", code=2).stderr


# --- watch ------------------------------------------------------------------------------------------------------------


def test_watch_resumes_a_preempted_run_and_ends_when_it_is_complete(taken):
    taken.control(queue=["WAITING_FOR_RESOURCES", "ACTIVE"])
    done = taken.tpu("watch")
    assert "resume 1 of 20" in done.stderr
    assert "is complete" in done.stderr
    assert "delete" in done.stderr
    assert taken.starts() == [taken.started_with]


def test_watch_starts_a_run_again_that_ended_in_75(cloud):
    cloud.installed()
    cloud.codes(75)
    cloud.run("--max-restarts", "0")
    cloud.ended()
    cloud.ended(1)
    cloud.tpu("watch")
    assert len(cloud.starts()) == 2


def test_watch_ends_with_the_error_of_the_run(cloud):
    cloud.installed()
    cloud.codes(1, workers=(1,))
    cloud.codes("wait", workers=(0,))
    cloud.run()
    cloud.ended(1)
    done = cloud.tpu("watch", code=8)
    assert "w-1 exited 1" in done.stderr
    assert "w-0 running" in done.stderr


def test_watch_does_not_bring_back_what_a_person_ended(cloud):
    cloud.installed()
    cloud.running()
    cloud.tpu("stop")
    assert "stopped by a person" in cloud.tpu("watch").stderr
    cloud.tpu("delete", "--yes")
    cloud.forget_calls()
    assert "was deleted" in cloud.tpu("watch", code=6).stderr
    assert not cloud.calls("queued-resources create")


def test_watch_gives_up_after_a_number_of_resumes(taken):
    taken.control(queue=["SUSPENDED"])
    done = taken.tpu("watch", "--max-resumes", "2", code=6)
    assert "resume 2 of 2" in done.stderr
    assert len(taken.calls("queued-resources create")) == 2
