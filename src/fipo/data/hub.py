"""Rows of a dataset on the Hugging Face hub, by the `datasets` library, which runs no code of a dataset.

The one place of the trainer's data that touches the network. With HF_HUB_OFFLINE=1 set, it does not: what was
downloaded before is used.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fipo.data.bad_rows import MalformedRow
from fipo.data.layouts import Layout, columns_of
from fipo.errors import UserError
from fipo.extras import install_hint
from fipo.hub import OutOfReach, commit_of, one_line

BATCH = 1024  # rows at a time: fifteen times as fast as row by row


def hub_rows(
    name: str, *, config: str | None, split: str, revision: str | None, layout: Layout | None = None
) -> Iterator[tuple[str, Any]]:
    """(place, row) for every row of a split; `layout`: that of the recipe's own columns.

    Raises UserError, one line that names the dataset, if it cannot be had: no library, no network, no such dataset,
    revision, config or split, columns of no known layout.
    """
    try:
        import datasets
    except ImportError:
        raise OutOfReach(f'source "hub" needs the extra: {install_hint("hub")}') from None
    if Path(name).exists():  # which load_dataset would take
        raise UserError(f'{name}: a file or folder here has this name; read its files with source = "file"')
    commit = commit_of("dataset", name, revision)
    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(name, config, split=split, revision=commit)
        rows = rows.select_columns(list(columns_of(rows.column_names, layout)))
    except MalformedRow as error:
        raise UserError(f"{name}: {error}") from None
    except Exception as error:  # whatever reading, downloading or converting raises
        raise UserError(f"{name}: cannot be loaded: {one_line(error)}") from None
    number = 0
    for batch in rows.iter(BATCH):
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield f"{name}, {split} row {number}", dict(zip(batch, values, strict=True))
