"""create, status and delete: the request, its waits, failures of gcloud, and the questions before a deletion."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

V5E = ("--accelerator", "v5litepod-16")


def test_create_asks_once_and_waits_until_the_node_is_ready(cloud):
    cloud.control(queue=["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
    done = cloud.tpu("create", *V5E, "--spot")
    (create,) = cloud.calls("queued-resources create")
    assert create[4:] == [
        "self-1",
        "--node-id=self-1",
        "--zone=us-west4-a",
        "--accelerator-type=v5litepod-16",
        "--runtime-version=v2-alpha-tpuv5-lite",
        "--spot",
        "--quiet",
    ]
    assert "queue WAITING_FOR_RESOURCES" in done.stderr
    assert "queue PROVISIONING" in done.stderr
    assert "install --name self-1" in done.stderr


def test_on_demand_is_the_default_and_more_flags_are_passed_on(cloud):
    cloud.tpu("create", *V5E, "--project", "my-project", "--gcloud-create-flag=--labels=team=a b")
    (create,) = cloud.calls("queued-resources create")
    assert "--spot" not in create
    assert {"--project=my-project", "--labels=team=a b"} <= set(create)


def test_create_again_waits_on_for_the_request_that_is_there(cloud):
    cloud.queue("WAITING_FOR_RESOURCES", "ACTIVE")
    cloud.tpu("create", *V5E)
    assert not cloud.calls("queued-resources create")


def test_the_wait_has_a_limit_and_says_that_the_request_stays(cloud):
    cloud.control(queue=["WAITING_FOR_RESOURCES"])
    done = cloud.tpu("create", *V5E, "--wait-minutes", "0.01", code=5)
    assert "the request stays" in done.stderr


def test_without_a_wait_create_only_asks(cloud):
    cloud.control(queue=["WAITING_FOR_RESOURCES"])
    cloud.tpu("create", *V5E, "--wait-minutes", "0")
    assert len(cloud.calls("describe")) == 1


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_a_request_that_fails_ends_the_wait(cloud, state):
    cloud.control(queue=["PROVISIONING", state])
    assert state in cloud.tpu("create", *V5E, code=6).stderr


def test_failures_that_may_pass_are_tried_again(cloud):
    unavailable = "ERROR: (gcloud.compute.tpus) UNAVAILABLE: The service is currently unavailable."
    cloud.control(fail=[{"match": "create", "times": 2, "stderr": unavailable}])
    done = cloud.tpu("create", *V5E)
    assert len(cloud.calls("queued-resources create")) == 3
    assert "try 2 of 4" in done.stderr


def test_retries_are_bounded(cloud):
    cloud.control(fail=[{"match": "describe", "times": 99, "stderr": "ERROR: DEADLINE_EXCEEDED"}])
    done = cloud.tpu("create", *V5E, "--retries", "2", code=4)
    assert len(cloud.calls()) == 3
    assert "DEADLINE_EXCEEDED" in done.stderr


def test_a_create_whose_answer_was_lost_is_taken_as_done(cloud):
    lost = {"match": "create", "times": 1, "stderr": "ERROR: connection reset by peer", "late": True}
    cloud.control(fail=[lost])
    cloud.tpu("create", *V5E)
    assert len(cloud.calls("queued-resources create")) == 2


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("ERROR: PERMISSION_DENIED: Permission 'tpu.nodes.create' denied", "Permissions"),
        ("ERROR: RESOURCE_EXHAUSTED: Quota limit 'TPUV5sLitepodPerProject' has been exceeded", "ask for quota"),
        (
            "ERROR: There was a problem refreshing your current auth tokens: Reauthentication failed",
            "gcloud auth login",
        ),
        ("ERROR: Cloud TPU API has not been used in project 1 before or it is disabled", "services enable"),
    ],
)
def test_other_failures_are_not_tried_again_and_name_the_remedy(cloud, words, remedy):
    cloud.control(fail=[{"match": "create", "times": 9, "stderr": words}])
    done = cloud.tpu("create", *V5E, code=4)
    assert len(cloud.calls("queued-resources create")) == 1
    assert words in done.stderr
    assert remedy in done.stderr


def test_a_gcloud_that_hangs_is_given_up(cloud):
    cloud.control(slow=[{"match": "describe", "seconds": 60}])
    start = time.monotonic()
    done = cloud.tpu("create", *V5E, "--retries", "1", code=4, env={"SELFEVO_LAUNCH_CALL_SECONDS": "0.3"})
    assert time.monotonic() - start < 10
    assert "no answer in 0.3 s" in done.stderr


def test_a_slow_gcloud_is_waited_for(cloud):
    cloud.control(slow=[{"match": "describe", "seconds": 0.3}])
    cloud.tpu("create", *V5E)


def test_gcloud_absent_is_said_with_the_remedy(cloud):
    (cloud.root / "bin" / "gcloud").unlink()
    done = cloud.tpu("create", *V5E, code=3)
    assert "gcloud is not on the PATH" in done.stderr
    assert "cloud.google.com/sdk" in done.stderr


def test_an_interrupted_call_ends_at_once_with_its_gcloud(cloud):
    cloud.control(slow=[{"match": "describe", "seconds": 60}])
    script = Path(__file__).parents[2] / "launch" / "tpu_vm.sh"
    words = [str(script), "status", "--name", "self-1", "--zone", "us-west4-a"]
    process = subprocess.Popen(words, cwd=cloud.root / "desk", env=cloud.env, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 10
    while not cloud.calls() and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 130


@pytest.mark.parametrize(
    ("queue", "node", "code"),
    [
        ("ACTIVE", "PREEMPTED\tUNHEALTHY_TPU", 6),
        ("SUSPENDED", "", 6),
        ("WAITING_FOR_RESOURCES", "", 0),
    ],
)
def test_status_tells_what_became_of_the_node(cloud, queue, node, code):
    cloud.queue(queue)
    cloud.control(node=node)
    done = cloud.tpu("status", code=code)
    assert f"queue   {queue}" in done.stdout
    assert node.split("\t")[0] in done.stdout


def test_status_of_nothing(cloud):
    assert "ABSENT" in cloud.tpu("status", code=6).stdout


def test_delete_asks_for_confirmation(cloud):
    cloud.queue("ACTIVE")
    assert "--yes" in cloud.tpu("delete", code=9).stderr
    assert not cloud.calls("queued-resources delete")


def test_delete_takes_the_nodes_too_and_remembers_for_resume(cloud):
    cloud.tpu("create", *V5E)
    cloud.tpu("delete", "--yes")
    (delete,) = cloud.calls("queued-resources delete")
    assert "--force" in delete
    assert (cloud.root / "desk" / ".selfevo-launch" / "self-1.env").exists()
    cloud.tpu("delete", "--yes", "--forget")  # what is gone is no error
    assert not list((cloud.root / "desk" / ".selfevo-launch").glob("self-1*"))


def test_the_zone_is_needed_once_alone(cloud):
    cloud.tpu("create", *V5E, "--project", "my-project")
    cloud.forget_calls()
    assert cloud.script("tpu_vm.sh", "status", "--name", "self-1").returncode == 0
    assert {"--zone=us-west4-a", "--project=my-project"} <= set(cloud.calls()[0])


def test_the_state_file_is_data_and_never_run(cloud):
    desk = cloud.root / "desk"
    cloud.tpu("create", *V5E)
    state = desk / ".selfevo-launch" / "self-1.env"
    state.write_text(state.read_text() + "CREATE_FLAG=$(touch owned)\nSSH_FLAG=`touch owned`\n")
    cloud.script("tpu_vm.sh", "status", "--name", "self-1")
    assert not (desk / "owned").exists()
