"""Where a process stands: flags, environment, TPU pods."""

import pytest

from selfevo_jax.errors import ConfigError
from selfevo_jax.hosts import Place, find_place

ENVIRONMENT = {"JAX_COORDINATOR_ADDRESS": "10.0.0.2:900", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
NO_TPU = {"TPU_SKIP_MDS_QUERY": "1"}


def test_flags_go_before_the_environment_and_each_may_come_from_either() -> None:
    assert find_place("a:1", 2, 1, NO_TPU) == Place("a", 1, 2, 1)
    assert find_place(environ=ENVIRONMENT) == Place("10.0.0.2", 900, 4, 3)
    assert find_place(process_id=0, environ=ENVIRONMENT) == Place("10.0.0.2", 900, 4, 0)
    assert find_place("[fe80::1]:80", 2, 0, NO_TPU) == Place("fe80::1", 80, 2, 0)


def test_a_process_that_is_alone_has_no_place() -> None:
    assert find_place(environ=NO_TPU) is None
    assert find_place(processes=1, environ=ENVIRONMENT | {"JAX_PROCESS_ID": ""}) is None
    assert find_place(environ={"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("a:1", None, None), r"--processes \(JAX_NUM_PROCESSES\) and --process-id \(JAX_PROCESS_ID\) must be given"),
        ((None, 2, 0), r"--coordinator \(JAX_COORDINATOR_ADDRESS\) must be given"),
        (("a", 2, 0), "--coordinator a: expected HOST:PORT"),
        (("a:b", 2, 0), "--coordinator a:b: expected HOST:PORT"),
        (("a:1", 2, 2), r"--process-id 2: expected 0 to 1 \(--processes 2\)"),
        (("a:1", 0, 0), "--processes 0: expected 1 or more"),
    ],
)
def test_a_place_that_cannot_be_is_refused_with_the_flag(given: tuple, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        find_place(*given, environ=NO_TPU)


def test_a_variable_that_is_no_number_is_refused_with_its_name() -> None:
    with pytest.raises(ConfigError, match="JAX_NUM_PROCESSES=two: expected a whole number"):
        find_place(environ=ENVIRONMENT | {"JAX_NUM_PROCESSES": "two"})


def test_a_pod_on_kubernetes_is_found_in_its_variables() -> None:
    pod = {"TPU_WORKER_HOSTNAMES": "w0.pods,w1.pods,w2.pods,w3.pods", "TPU_WORKER_ID": "2"}
    assert find_place(environ=pod) == Place("w0.pods", 8482, 4, 2)
    assert find_place(processes=1, environ=pod) is None
    slices = {"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1", "MEGASCALE_COORDINATOR_ADDRESS": "s0:8080"}
    assert find_place(environ=pod | slices | {"JAX_COORDINATOR_PORT": "77"}) == Place("s0", 77, 8, 6)
    with pytest.raises(ConfigError, match="TPU_WORKER_ID is None"):
        find_place(environ={"TPU_WORKER_HOSTNAMES": "a,b"})


def test_a_pod_of_tpu_vms_is_found_in_its_metadata() -> None:
    def metadata(key: str) -> str | None:
        return {"worker-network-endpoints": "u:8470:10.0.0.5,v:8470:10.0.0.6", "agent-worker-number": "1"}.get(key)

    assert find_place(environ={}, metadata=metadata) == Place("10.0.0.5", 8482, 2, 1)

    def two_slices(key: str) -> str | None:
        lines = "MEGASCALE_NUM_SLICES: '2'\nMEGASCALE_SLICE_ID: '1'\nMEGASCALE_COORDINATOR_ADDRESS: '10.0.0.5:8080'"
        return lines if key == "tpu-env" else metadata(key)

    assert find_place(environ={}, metadata=two_slices) == Place("10.0.0.5", 8482, 4, 3)
    assert find_place(environ={}, metadata=lambda key: None) is None
