"""Where the figures of a run are shown beside those of other work: one small file for each tracker."""

from selfevo_jax.trackers.base import About, Event, Scalars, Settings, Texts, Tracker, TrackSection
from selfevo_jax.trackers.registry import section_of
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
    "section_of",
]
