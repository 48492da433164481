"""The rows of .jsonl and .parquet files, one after the other, each with the place to name if it is malformed.

What a row means is decided elsewhere. Nothing here unpickles, and no file is in memory as a whole.
"""

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fipo.data.bad_rows import BadRows, MalformedRow
from fipo.errors import UserError, why

COMPRESSED = re.compile(r"(?<=\.jsonl)\.(gz|zst)$", re.IGNORECASE)
CODECS = {".gz": "gzip", ".zst": "zstd"}


def read_rows(
    path: Path, choose: Callable[[Sequence[str]], Sequence[str]], bad_rows: BadRows
) -> Iterator[tuple[str, Any]]:
    """(place, row) for every row that can be read; what cannot goes to `bad_rows`.

    Of a parquet file's columns only those are read that `choose` names of them. Raises UserError for a file that
    cannot be read on, naming it and how far it was read, and for columns that `choose` raises MalformedRow for.
    """
    if path.is_dir():
        raise UserError(f"{path}: must be a .jsonl or .parquet file, got a folder")
    if not path.exists():
        raise UserError(f"{path}: no such file")
    if not path.is_file():
        raise UserError(f"{path}: must be a regular file")
    match Path(COMPRESSED.sub("", path.name)).suffix.lower():
        case ".parquet":
            from fipo.data.parquet import parquet_rows  # and pyarrow with it, 30 MiB

            yield from parquet_rows(path, choose, bad_rows)
        case ".jsonl":
            yield from _jsonl_rows(path, bad_rows)
        case _:
            raise UserError(f"{path}: a data file must end in .jsonl, .jsonl.gz, .jsonl.zst or .parquet")


def _jsonl_rows(path: Path, bad_rows: BadRows) -> Iterator[tuple[str, Any]]:
    number = 0
    try:
        with _opened(path) as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                try:
                    row = _json_row(line)
                except MalformedRow as error:
                    bad_rows.leave_out(where, str(error))
                    continue
                yield where, row
    except OSError as error:
        raise UserError(f"{path}: cannot be read after line {number}: {why(error)}") from None


def _opened(path: Path) -> io.BufferedReader:
    """Its bytes, decompressed as its name says."""
    if COMPRESSED.search(path.name):
        import pyarrow  # 30 MiB

        return io.BufferedReader(pyarrow.input_stream(str(path), compression=CODECS[path.suffix.lower()]))
    return path.open("rb")


def name_of(path: Path) -> str:
    """What a dataset is called after its file: without the endings."""
    return Path(COMPRESSED.sub("", path.name)).stem


def _json_row(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8-sig"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise MalformedRow(f"not UTF-8 text: byte {line[error.start]:#04x} at position {error.start}") from None
    except RecursionError:
        raise MalformedRow("nested too deeply") from None
    except ValueError as error:  # for whole numbers of more than 4300 digits as well
        raise MalformedRow(f"not JSON text: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; Python's own reader would take the last of two values without a word."""
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise MalformedRow(f"a key must stand once in an object, got {twice!r:.80} twice")
    return row
