"""Threads of CPU devices: as many as one process with the devices of all would have."""

import jax

from selfevo_jax.hosts.session import _of_computing
from selfevo_jax.hosts.threads import cpu_devices, threads_of_all


def test_the_devices_a_process_was_told_to_have_are_known_before_jax_starts() -> None:
    assert cpu_devices({}) == 1
    assert cpu_devices({"XLA_FLAGS": "--a=1 --xla_force_host_platform_device_count=4 --b=2"}) == 4
    two = "--xla_force_host_platform_device_count=4 --xla_force_host_platform_device_count=2"
    assert cpu_devices({"XLA_FLAGS": two}) == 2


def test_processes_with_virtual_devices_have_the_threads_of_one_with_all_of_them() -> None:
    assert threads_of_all([4, 4], cores=2) == 8
    assert threads_of_all([4, 4], cores=64) == 64
    assert threads_of_all([1, 1], cores=2) is None


def test_a_broken_computation_is_told_from_an_error_of_this_process() -> None:
    assert _of_computing(ValueError("UNKNOWN: Gloo all-reduce failed: connection closed by peer"))
    assert _of_computing(jax.errors.JaxRuntimeError("INTERNAL: it broke"))
    assert not _of_computing(ValueError("rows: expected 1 or more"))
