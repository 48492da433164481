"""Trackers: what metrics.jsonl holds, in the programs that people watch their runs with; docs/trackers.md."""

from fipo.telemetry.trackers.adapters import TrackerName
from fipo.telemetry.trackers.watch import Trackers

__all__ = ["TrackerName", "Trackers"]
