"""The rows of .jsonl and .parquet files, one after the other, each with the place to name if it is malformed.

What a row means is decided elsewhere. Nothing here unpickles, and no file is in memory as a whole.
"""

import io
import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet

from fipo.data.bad_rows import BadRows, MalformedRow
from fipo.errors import UserError, why

COMPRESSED = re.compile(r"(?<=\.jsonl)\.(gz|zst)$", re.IGNORECASE)
CODECS = {".gz": "gzip", ".zst": "zstd"}
BATCH = 1024  # parquet rows decoded together
# What pyarrow raises for files that were cut or changed, whatever the place.
DAMAGE = (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError, RecursionError)

ChooseColumns = Callable[[Sequence[str]], Sequence[str]]


def read_rows(path: Path, choose: ChooseColumns, bad_rows: BadRows) -> Iterator[tuple[str, Any]]:
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
            yield from _parquet_rows(path, choose, bad_rows)
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


def _parquet_rows(path: Path, choose: ChooseColumns, bad_rows: BadRows) -> Iterator[tuple[str, Any]]:
    """In batches: the published DAPO file has 1.8 million rows."""
    number = 0
    try:
        file = parquet.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
        columns = list(choose(file.schema_arrow.names))
        for batch in file.iter_batches(batch_size=BATCH, columns=columns, use_threads=False):
            yield from _batch_rows(batch, path, number, bad_rows)
            number += batch.num_rows
    except MalformedRow as error:
        raise UserError(f"{path}: {error}") from None
    except DAMAGE as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path}: not readable as parquet after row {number}: {reason}") from None


def _batch_rows(batch: Any, path: Path, before: int, bad_rows: BadRows) -> Iterator[tuple[str, Any]]:
    narrow = {field.name: field.type for field in batch.schema if _has_narrow_floats(field.type)}
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):  # some text is not UTF-8: find out whose
        rows = None
    for i in range(batch.num_rows):
        where = f"{path}, row {before + i + 1}"
        try:
            row = rows[i] if rows is not None else batch.slice(i, 1).to_pylist()[0]
        except (ValueError, OverflowError) as error:
            bad_rows.leave_out(where, f"not readable: {error}")
            continue
        yield where, row | {name: _as_written(row[name], kind) for name, kind in narrow.items()}


def _has_narrow_floats(kind: pyarrow.DataType) -> bool:
    inner = [kind.field(i).type for i in range(kind.num_fields)]
    return pyarrow.types.is_float32(kind) or pyarrow.types.is_float16(kind) or any(map(_has_narrow_floats, inner))


def _as_written(value: Any, kind: pyarrow.DataType) -> Any:
    """A float of 32 or 16 bits as the shortest number that it can have been: 0.1, and not 0.10000000149011612."""
    if isinstance(value, dict) and pyarrow.types.is_struct(kind):
        return {name: _as_written(each, kind.field(name).type) for name, each in value.items()}
    if isinstance(value, list) and kind.num_fields == 1:
        return [_as_written(each, kind.field(0).type) for each in value]
    if not isinstance(value, float) or not math.isfinite(value) or not _has_narrow_floats(kind):
        return value
    form = "f" if pyarrow.types.is_float32(kind) else "e"
    shortest = (float(f"{value:.{digits}g}") for digits in range(1, 10))
    return next((short for short in shortest if _through(form, short) == value), value)


def _through(form: str, value: float) -> float:
    """What is left of a number in a format of `struct`."""
    try:
        return float(struct.unpack(form, struct.pack(form, value))[0])
    except OverflowError:
        return math.inf
