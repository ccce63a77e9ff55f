"""States inside a fine-tuning: saved in the background while it goes on, removed when it has ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from etils import epath

from selfevo_jax import hosts
from selfevo_jax.checkpoint.aside import set_aside
from selfevo_jax.checkpoint.commit import anybody, committing, folder_faults
from selfevo_jax.checkpoint.store import absolute, compare, require_plain
from selfevo_jax.errors import ModelError, first_line
from selfevo_jax.storage import place, storage_of
from selfevo_jax.untrusted import reading

KEPT = 2
"""States kept: the newest may be the one that a kill tears."""
_SAVE_SECONDS = 24 * 3600
"""Orbax's own limit of a save in the background, 20 minutes unless set, is no sign of a fault: storage may be slow."""


def _is_raised_elsewhere(record: logging.LogRecord) -> bool:
    """Orbax logs why a save in the background failed, with a traceback, and raises it again where the save is waited
    for: there it is told in one line."""
    return record.exc_info is not None and "orbax" in Path(record.pathname).parts


logging.getLogger("absl").addFilter(lambda record: not _is_raised_elsewhere(record))


class TrainingStore:
    """The saved states of one fine-tuning, in a folder of their own, by their number of updates.

    Of several processes every one calls every method.
    """

    def __init__(self, folder: epath.PathLike, allowed: Callable[[], None] = anybody) -> None:
        """`allowed` is called before anything is saved, and again before it counts; what it raises ends the save."""
        self.folder, self.allowed = absolute(folder), allowed
        self.aside: list[Path] = []
        """Where unfinished states of an earlier process were moved to, as process 0 knows it."""
        self._opened: Any = None
        self._read: int | None = None
        """A state that was read, and found to be as it was saved."""

    @property
    def _manager(self) -> Any:
        import orbax.checkpoint as ocp

        if self._opened is None:
            options = ocp.CheckpointManagerOptions(
                max_to_keep=KEPT,
                async_options=ocp.AsyncOptions(timeout_secs=_SAVE_SECONDS),
                temporary_path_class=committing(self.folder, self.allowed),
            )
            self._opened = ocp.CheckpointManager(self.folder, options=options)
        return self._opened

    def latest(self) -> int | None:
        """Updates of the newest state that was saved to its end, as process 0 finds it; all go on from that one.

        Raises ModelError, naming them, where other processes do not see it.
        """
        step = hosts.agree(f"the newest training state in {self.folder.name}", self._look)
        if step is None:
            return None
        blind = hosts.blind(f"looking for training state {step}", lambda: _is_whole(self.folder / str(step)))
        if blind:
            raise ModelError(
                f"{self.folder / str(step)}: the training state to go on from is not seen by "
                f"{', '.join(map(str, blind))}; put run_dir on storage that all share, and run the same command again"
            )
        return step

    def _look(self) -> int | None:
        """The newest state that is as it was saved, after others have been moved to quarantine."""
        if not self.folder.exists():
            return None
        states = [state for state in sorted(self.folder.iterdir()) if state.is_dir()]
        whole = {int(state.name): state for state in states if _is_whole(state) and state.name.isdigit()}
        if self._opened is not None:
            return max(whole, default=None)
        self.aside += [set_aside(state) for state in states if state not in whole.values()]
        for step in sorted(whole, reverse=True):
            if step == self._read or not folder_faults(place(whole[step])):
                self._read = step
                return step
            self.aside.append(set_aside(whole[step]))
        return None

    def save(self, step: int, state: Any, record: Mapping[str, Any]) -> None:
        """Begins to write a state and a JSON record; the caller may go on, and donate the state, at once.

        Raises ModelError, naming the folder, where the save before it failed.
        """
        import orbax.checkpoint as ocp

        parts = ocp.args.Composite(state=ocp.args.PyTreeSave(state), record=ocp.args.JsonSave(dict(record)))
        self.allowed()
        with hosts.working(f"saving training state {step}"):  # it waits for the one before
            self._checked(lambda: self._manager.save(step, args=parts))

    def restore(self, step: int, target: Any) -> tuple[Any, dict[str, Any]]:
        """A state in the shapes, dtypes and places of `target` (shapes with shardings), and its record.

        Raises ModelError on a state that cannot be read, or that does not fit the target, with the leaf.
        """
        import orbax.checkpoint as ocp

        places = ocp.checkpoint_utils.construct_restore_args(target)
        wanted = ocp.args.Composite(
            state=ocp.args.PyTreeRestore(item=target, restore_args=places), record=ocp.args.JsonRestore()
        )
        require_plain(self.folder)
        with (
            hosts.working(f"reading training state {step}"),
            reading(self.folder, "training state", jax.errors.JaxRuntimeError),
        ):
            stored = ocp.PyTreeCheckpointHandler().metadata(self.folder / str(step) / "state")
            compare(self.folder, target, getattr(stored, "tree", stored))
            found = self._manager.restore(step, args=wanted)
            state, record = found["state"], found["record"]
            if not isinstance(record, dict):
                raise ValueError("its record is no JSON object")
            return state, record

    def finish(self) -> None:
        """Waits until all is on disk. Raises ModelError where a save failed."""
        if self._opened is not None:
            with hosts.working(f"saving to {self.folder.name}"):
                self._checked(self._opened.wait_until_finished)
            self._opened.close()
            self._opened = None

    def clear(self) -> None:
        """The good end of the fine-tuning: its states are removed."""
        self.finish()
        hosts.barrier(f"the end of {self.folder.name}")
        if hosts.is_writer() and self.folder.exists():
            storage_of(self.folder).remove(place(self.folder))

    def _checked(self, act: Any) -> Any:
        try:
            return act()
        except (OSError, ValueError) as error:
            raise ModelError(f"{self.folder}: the training could not be saved ({first_line(error)})") from error


def _is_whole(state: epath.Path) -> bool:
    import orbax.checkpoint as ocp

    return bool(state.exists() and ocp.utils.is_checkpoint_finalized(state))
