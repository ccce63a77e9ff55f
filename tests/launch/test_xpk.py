"""xpk.sh against a stand-in xpk."""

import shlex

import pytest

PLACE = ["--cluster", "evo", "--zone", "us-west4-a"]
RUN = ["run", *PLACE, "--tpu-type", "v5litepod-16", "--workload", "self-1"]
IMAGE = ["--docker-image", "us-docker.pkg.dev/p/r/selfevo:1"]
RUN_DIR = "run_dir=gs://b/a run"


def test_a_cluster_of_several_spot_slices(cloud):
    done = cloud.xpk("cluster-create", *PLACE, "--tpu-type", "v5litepod-16", "--num-slices", "2", "--spot")
    assert done.returncode == 0
    words = ["--cluster=evo", "--zone=us-west4-a", "--tpu-type=v5litepod-16", "--num-slices=2", "--spot"]
    assert cloud.calls() == [["cluster", "create", *words]]


def test_a_run_over_slices_restarts_on_75_and_keeps_its_arguments(cloud):
    awkward = 'a.b=it\'s "$HOME" `id`'
    done = cloud.xpk(*RUN, "--num-slices", "2", *IMAGE, "--project", "my-project", "c.yaml", RUN_DIR, awkward)
    assert done.returncode == 0
    (call,) = cloud.calls()
    assert call[:2] == ["workload", "create"]
    assert {
        "--workload=self-1",
        "--cluster=evo",
        "--project=my-project",
        "--tpu-type=v5litepod-16",
        "--num-slices=2",
        "--restart-on-exit-codes=75",
        "--max-restarts=50",
        "--termination-grace-period-seconds=300",
        "--docker-image=us-docker.pkg.dev/p/r/selfevo:1",
    } <= set(call)
    (command,) = [word.removeprefix("--command=") for word in call if word.startswith("--command=")]
    assert shlex.split(command) == ["exec", "selfevo", "evolve", "c.yaml", RUN_DIR, awkward]


def test_without_an_image_the_tree_is_built_and_installed(cloud, tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "c.yaml").touch()
    done = cloud.xpk(*RUN, "--script-dir", str(tmp_path / "tree"), "c.yaml", RUN_DIR)
    assert done.returncode == 0, done.stderr
    (call,) = cloud.calls()
    assert {"--base-docker-image=python:3.12", f"--script-dir={tmp_path}/tree"} <= set(call)
    assert (
        call[-1] == f"--command=pip install --quiet '.[tpu,gcs]' && exec selfevo evolve c.yaml {shlex.quote(RUN_DIR)}"
    )


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["status", *PLACE], ["workload", "list"]),
        (["stop", *PLACE, "--workload", "self-1", "--yes"], ["workload", "delete"]),
        (["cluster-delete", *PLACE, "--yes"], ["cluster", "delete"]),
    ],
)
def test_the_other_commands(cloud, plan, words, called):
    assert plan(cloud.xpk(*words, "--dry-run").stdout)[0][:3] == ["xpk", *called]
    assert not cloud.calls()
    assert cloud.xpk(*words).returncode == 0
    assert cloud.calls()[0][:2] == called


def test_a_dry_run_prints_what_a_run_calls(cloud, plan):
    words = [*RUN, *IMAGE, "c.yaml", RUN_DIR, "a=it's"]
    printed = plan(cloud.xpk(*words, "--dry-run").stdout)
    assert not cloud.calls()
    cloud.xpk(*words)
    assert printed == [["xpk", *call] for call in cloud.calls()]


@pytest.mark.parametrize("words", [["stop", *PLACE, "--workload", "self-1"], ["cluster-delete", *PLACE]])
def test_what_deletes_asks(cloud, words):
    assert cloud.xpk(*words).returncode == 9
    assert not cloud.calls()


def test_the_code_of_xpk_is_passed_on(cloud):
    assert cloud.xpk("status", *PLACE, env={"FAKE_XPK_CODE": "42"}).returncode == 42


def test_xpk_absent_is_said(cloud):
    (cloud.root / "bin" / "xpk").unlink()
    done = cloud.xpk("status", *PLACE)
    assert done.returncode == 3
    assert "pip install xpk" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "xpk.sh COMMAND"),
        (["status", "--zone", "us-west4-a"], "--cluster is missing"),
        (["status", "--cluster", "evo"], "--zone is missing"),
        (["cluster-create", *PLACE], "--tpu-type is missing"),
        (["cluster-create", *PLACE, "--tpu-type", "v4-8", "--num-slices", "0"], "from 1"),
        (["stop", *PLACE], "--workload is missing"),
        (RUN, "CONFIG is missing"),
        ([*RUN, *IMAGE, "c.yaml"], "give run_dir=gs://"),
        ([*RUN, *IMAGE, "c.yaml", "run_dir=runs/x"], "give run_dir=gs://"),
        ([*RUN, "nothing.yaml", RUN_DIR], "which goes into the image"),
        ([*RUN, "--priority", "now", "c.yaml", RUN_DIR], "very-high"),
    ],
)
def test_a_wrong_argument_is_named_with_the_remedy(cloud, words, said):
    done = cloud.xpk(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert not cloud.calls()


def test_help_has_examples(cloud):
    assert "Examples:" in cloud.xpk("--help").stdout
