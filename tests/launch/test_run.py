"""install, run, logs and stop, with the remote half truly run in two homes: quoting, restarts, exit codes, refusals."""

import subprocess
import tarfile
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"

AWKWARD = ['model.source=/a b/it\'s "here"', "x.y=$HOME `id` $(id) \\ * ; & | > <", "tags=[a,b]", "empty=", "é=ü"]


@pytest.fixture
def tree(tmp_path):
    """A git tree with one commit and one change after it."""
    folder = tmp_path / "a tree"
    folder.mkdir()
    (folder / "data.txt").write_text("committed")
    git = ["git", "-C", str(folder), "-c", "user.name=T", "-c", "user.email=t@example.com"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    (folder / "data.txt").write_text("changed")
    return folder


# --- install ----------------------------------------------------------------------------------------------------------


def test_install_ships_the_committed_tree_to_all_workers(cloud, tree):
    cloud.queue("ACTIVE")
    done = cloud.tpu("install", "--source", str(tree))
    assert "uncommitted changes" in done.stderr
    for worker in (0, 1):
        home = cloud.home(worker)
        assert (home / "selfevo/source/data.txt").read_text() == "committed"
        assert f"install {home}/selfevo/source[tpu,gcs]" in (home / "pip.log").read_text()
        assert f"w-{worker}: installed selfevo_jax 0.0" in done.stdout
    with tarfile.open(cloud.root / "desk/.selfevo-launch/self-1.source.tar.gz") as packed:
        assert packed.getnames() == ["data.txt"]


@pytest.mark.parametrize(
    ("source", "requirement"),
    [
        ("0.1.0", "selfevo-jax[tpu,gguf]==0.1.0"),
        ("git+https://example.com/a.git@v1", "selfevo-jax[tpu,gguf] @ git+https://example.com/a.git@v1"),
    ],
)
def test_install_from_an_index_or_a_repository(cloud, source, requirement):
    cloud.queue("ACTIVE")
    cloud.tpu("install", "--source", source, "--extras", "tpu,gguf")
    assert f"install {requirement}\n" in (cloud.home() / "pip.log").read_text()


def test_an_old_python_is_helped_by_uv(cloud):
    cloud.queue("ACTIVE")
    worker_bin = cloud.root / "tools"
    worker_bin.joinpath("python3.12").unlink()
    worker_bin.joinpath("python3").symlink_to(Path(__file__).parent / "standins/worker/old-python")
    done = cloud.tpu("install", "--source", "0.1.0")
    assert "installed selfevo_jax" in done.stdout
    assert "python install 3.12" in (cloud.home() / "uv.log").read_text()


def test_no_python_at_all_is_said(cloud):
    cloud.queue("ACTIVE")
    (cloud.root / "tools" / "python3.12").unlink()
    done = cloud.tpu("install", "--source", "0.1.0", code=10)
    assert "w-0: error: no Python 3.11 or newer" in done.stderr
    assert "w-1: error: no Python 3.11 or newer" in done.stderr


def test_what_pip_said_is_shown_when_it_fails(cloud):
    cloud.queue("ACTIVE")
    cloud.home(1).mkdir()
    (cloud.home(1) / "pip-fails").touch()
    done = cloud.tpu("install", "--source", "0.1.0", code=10)
    assert "no matching distribution found" in done.stderr
    assert "w-1: error: pip install" in done.stderr


def test_install_and_run_need_a_usable_node(cloud):
    cloud.queue("WAITING_FOR_RESOURCES")
    assert "create" in cloud.tpu("install", "--source", "0.1.0", code=6).stderr
    cloud.queue("ACTIVE")
    cloud.control(node="PREEMPTED\t")
    assert "resume" in cloud.tpu("run", "config.yaml", code=6).stderr


# --- run --------------------------------------------------------------------------------------------------------------


def test_arguments_reach_every_worker_as_they_were(cloud):
    cloud.installed()
    overrides = ["run_dir=gs://bucket/a run", *AWKWARD[:-1]]
    cloud.tpu("run", "config.yaml", *overrides)
    for worker in (0, 1):
        assert cloud.ended(worker) == "0"
        config = cloud.home(worker) / "selfevo/self-1.yaml"
        assert cloud.starts(worker) == [["evolve", str(config), *overrides]]
        assert config.read_text() == "run_dir: runs/here\n"


def test_run_returns_while_the_run_goes_on_and_a_second_is_refused(cloud):
    cloud.installed()
    cloud.codes("wait")
    done = cloud.run()
    assert "w-1 running" in done.stdout
    status = cloud.tpu("status").stdout
    assert "worker  w-0 running" in status
    refused = cloud.run(code=7)
    assert "a run is alive on self-1" in refused.stderr
    assert "stop" in refused.stderr
    assert "a run is alive" in cloud.tpu("install", "--source", "0.1.0", code=7).stderr
    assert len(cloud.starts()) == 1


def test_no_worker_is_started_while_one_of_them_runs(cloud):
    cloud.installed()
    cloud.codes(0, workers=(0,))
    cloud.codes("wait", workers=(1,))
    cloud.run()
    cloud.ended(0)
    cloud.run(code=7)
    assert len(cloud.starts(0)) == 1


def test_code_75_starts_the_run_again_on_its_worker(cloud):
    cloud.installed()
    cloud.codes(75, 75, 0)
    cloud.run("a=b c")
    assert cloud.ended() == "0"
    starts = cloud.starts()
    assert len(starts) == 3
    assert starts[0] == starts[1] == starts[2]
    assert "w-0 exited 0" in cloud.tpu("status").stdout


def test_restarts_are_bounded(cloud):
    cloud.installed()
    cloud.codes(75, 75, 75, 75)
    cloud.run("--max-restarts", "2")
    assert cloud.ended() == "75"
    assert len(cloud.starts()) == 3


def test_another_code_ends_the_run_and_is_kept(cloud):
    cloud.installed()
    cloud.codes(3)
    cloud.run()
    assert cloud.ended() == "3"
    assert len(cloud.starts()) == 1
    assert "w-0 exited 3" in cloud.tpu("status").stdout
    cloud.run()  # the same command goes on
    assert len(cloud.starts()) == 2


def test_a_start_whose_answer_was_lost_is_not_a_second_run(cloud):
    cloud.installed()
    cloud.codes("wait")
    cloud.control(fail=[{"match": "remote.sh start", "times": 1, "stderr": "timed out", "code": 255, "late": True}])
    cloud.run()
    assert len(cloud.calls("remote.sh start")) == 2
    assert len(cloud.starts()) == 1


def test_run_without_install_is_refused(cloud):
    cloud.queue("ACTIVE")
    assert "run install" in cloud.tpu("run", "config.yaml", code=10).stderr


@pytest.mark.parametrize(
    ("words", "warned"),
    [(["run_dir=gs://b/r"], False), (["run_dir='gs://b/r' # mine"], False), (["run_dir=runs/x"], True), ([], True)],
)
def test_a_local_run_dir_on_a_spot_pod_is_warned_of(cloud, words, warned):
    cloud.installed()
    done = cloud.tpu("run", "config.yaml", *words)
    assert ("dies with a spot node" in done.stderr) is warned
    assert ("each worker of v5litepod-16" in done.stderr) is warned


def test_a_worker_that_went_down_is_told_from_one_that_ended(cloud):
    cloud.installed()
    cloud.running()
    pid = cloud.wait_for("selfevo/self-1.pid")
    subprocess.run(["kill", "-KILL", "--", f"-{pid}"], check=True)
    status = cloud.tpu("status").stdout
    assert "w-0 died" in status
    assert "w-1 running" in status


# --- logs and stop ----------------------------------------------------------------------------------------------------


def test_logs_of_one_worker_and_of_all(cloud):
    cloud.installed()
    assert "no log yet" in cloud.tpu("logs", code=10).stderr
    cloud.run()
    for worker in (0, 1):
        cloud.ended(worker)
    one = cloud.tpu("logs", "--lines", "1").stdout
    assert one.endswith("exit code 0\n")
    assert one.count("\n") == 1
    assert "[selfevo runner]" in cloud.tpu("logs", "--worker", "1", "--no-follow").stdout
    both = cloud.tpu("logs", "--worker", "all", "--no-follow").stdout
    assert "w-0: in " in both
    assert "w-1: in " in both


def test_following_ends_with_the_run(cloud):
    cloud.installed()
    cloud.running()
    words = [str(LAUNCH / "tpu_vm.sh"), "logs", "--name", "self-1"]
    follow = subprocess.Popen(words, cwd=cloud.root / "desk", env=cloud.env, stdout=subprocess.PIPE, text=True)
    assert "start 1" in follow.stdout.readline()
    cloud.tpu("stop")
    text, _ = follow.communicate(timeout=20)
    assert "saved" in text


def test_stop_waits_until_the_run_has_saved_and_does_not_restart_it(cloud):
    cloud.installed()
    cloud.running(0)
    done = cloud.tpu("stop")
    for worker in (0, 1):
        assert f"w-{worker} exited 75 stopped" in done.stdout
        assert (cloud.home(worker) / "selfevo/self-1.log").read_text().count("saved") == 1
        assert len(cloud.starts(worker)) == 1
    assert "delete" in done.stderr
    cloud.tpu("stop")  # of what has stopped is no error
    cloud.run()
    assert len(cloud.starts()) == 2


def test_stop_says_when_saving_takes_longer_and_force_ends_it(cloud):
    cloud.installed()
    cloud.codes("deaf", workers=(1,))
    cloud.codes("wait", workers=(0,))
    cloud.run()
    cloud.wait_for("listening", 1)
    late = cloud.tpu("stop", "--wait-minutes", "0.01", code=5)
    assert "w-1: error: still saving after 1 s" in late.stderr
    assert "--force" in late.stderr
    assert "w-1 exited 137 stopped" in cloud.tpu("stop", "--wait-minutes", "0", "--force").stdout
