"""What is said of accelerators that a machine has, or has not."""

import pytest

from selfevo_jax import accelerators
from selfevo_jax.accelerators import is_present, overlooked, remedy
from selfevo_jax.lazy import install


def pci(root, name, vendor, device):
    folder = root / "sys/bus/pci/devices" / name
    folder.mkdir(parents=True)
    (folder / "vendor").write_text(f"{vendor}\n")
    (folder / "device").write_text(f"{device}\n")


@pytest.fixture
def installed(monkeypatch):
    """Sets what counts as installed."""

    def choose(*platforms):
        monkeypatch.setattr(accelerators, "is_installed", lambda platform: platform in {"cpu", *platforms})

    return choose


def test_a_tpu_is_told_from_a_network_card_of_the_same_vendor(tmp_path) -> None:
    pci(tmp_path, "0000:00:04.0", "0x1ae0", "0x0042")
    assert not is_present("tpu", tmp_path)
    pci(tmp_path, "0000:00:05.0", "0x1ae0", "0x0063")
    assert is_present("tpu", tmp_path)


@pytest.mark.parametrize(("platform", "extra"), [("tpu", "tpu"), ("gpu", "cuda")])
def test_a_platform_whose_package_is_missing_names_the_command(platform, extra, installed, tmp_path) -> None:
    installed()
    assert remedy(platform, tmp_path).endswith(f"install it with: {install(extra)}")


def test_an_installed_platform_without_a_device_is_another_machine_or_another_process(installed, tmp_path) -> None:
    installed("tpu", "gpu")
    assert "shows no GPU" in remedy("gpu", tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    assert "another process may hold it" in remedy("gpu", tmp_path)


def test_an_accelerator_that_jax_passes_over_is_named_with_the_command(installed, tmp_path) -> None:
    installed()
    assert overlooked("cpu", tmp_path) is None
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert install("cuda") in overlooked("cpu", tmp_path)
    installed("gpu")
    assert overlooked("gpu", tmp_path) is None
    pci(tmp_path, "0000:00:05.0", "0x1ae0", "0x0063")
    assert "has a TPU, but libtpu is not installed: gpu is used" in overlooked("gpu", tmp_path)
