"""Where the figures of a run are shown beside those of other work: one small file for each tracker."""

from selfevo_jax.trackers.base import About, Event, Scalars, Settings, Texts, Tracker
from selfevo_jax.trackers.registry import TrackSection, open_tracker, section_of
from selfevo_jax.trackers.section import AnyTracker

__all__ = [
    "About",
    "AnyTracker",
    "Event",
    "Scalars",
    "Settings",
    "Texts",
    "TrackSection",
    "Tracker",
    "open_tracker",
    "section_of",
]
