"""The records of a cell in one small file, written whenever a checkpoint is added."""

import gzip
import json
from pathlib import Path
from typing import Any

from fipo.errors import UserError
from fipo.study.credit.measure import Record
from fipo.telemetry.durable import replace_file

DIGITS = 7  # significant


def read_records(path: Path, fingerprint: str) -> list[Record]:
    """In the order of their numbers; [] where there is no file. Raises UserError for what another design made."""
    if not path.is_file():
        return []
    records = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    if any(record["design"] != fingerprint for record in records):
        raise UserError(f"{path}: was measured by another design; choose another --credit.name")
    return records


def add_record(path: Path, fingerprint: str, record: Record) -> None:
    records = [*read_records(path, fingerprint), {"design": fingerprint} | record]
    records.sort(key=lambda one: one["number"])
    lines = [json.dumps(_short(one), separators=(",", ":")) + "\n" for one in records]
    replace_file(path, gzip.compress("".join(lines).encode(), mtime=0))


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _short(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_short(each) for each in value]
    return value
