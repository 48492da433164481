from collections.abc import Mapping

from fipo.telemetry.run_directory import RunDirectory


def credit_section(runs: Mapping[str, RunDirectory]) -> str:
    return ""
