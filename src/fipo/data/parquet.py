"""The rows of a parquet file, by pyarrow; part of `files`, which loads it where there is such a file."""

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as parquet

from fipo.data.bad_rows import BadRows, MalformedRow
from fipo.errors import UserError

BATCH = 1024  # rows decoded together
# What pyarrow raises for files that were cut or changed, whatever the place.
DAMAGE = (pyarrow.ArrowException, OSError, ValueError, OverflowError, MemoryError, RecursionError)


def parquet_rows(
    path: Path, choose: Callable[[Sequence[str]], Sequence[str]], bad_rows: BadRows
) -> Iterator[tuple[str, Any]]:
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
