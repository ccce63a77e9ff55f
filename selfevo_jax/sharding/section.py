"""How the devices of a run are divided."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, model_validator

from selfevo_jax.section import Section


def _some_devices(value: int) -> int:
    if value < 1 and value != -1:
        raise ValueError(f"found {value}, expected a whole number above 0, or -1 for what the others leave")
    return value


Devices = Annotated[int, AfterValidator(_some_devices)]


class MeshSection(Section):
    """How the devices are divided for training; `sampling.tensor` divides them for decoding. Of several slices of TPUs
    each is divided in this way, rows go over all of them, and each has all parameters: the data-centre network between
    them carries sums of gradients alone."""

    data: Devices = -1
    """Devices for data parallelism; -1 takes what the other two leave."""
    fsdp: Devices = 1
    """Devices that parameters, optimizer and rows are divided over."""
    tensor: Devices = 1
    """Devices that each matrix is divided over."""

    @model_validator(mode="after")
    def _one_is_inferred(self) -> MeshSection:
        open_sizes = [name for name in ("data", "fsdp", "tensor") if getattr(self, name) == -1]
        if len(open_sizes) > 1:
            raise ValueError(f"{' and '.join(open_sizes)} are -1; one of them at most takes what the others leave")
        return self
