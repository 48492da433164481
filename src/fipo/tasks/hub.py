"""Rows of a dataset on the Hugging Face hub, by the `datasets` library, which runs no code of a dataset.

The one place of the trainer's data that touches the network. With HF_HUB_OFFLINE=1 set, it does not: what was
downloaded before is used.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fipo.errors import UserError
from fipo.tasks.bad_rows import MalformedRow
from fipo.tasks.files import BATCH
from fipo.tasks.layouts import columns_of

TIMEOUT = 10.0  # seconds that the hub has for its first answer


def hub_rows(name: str, *, config: str | None, split: str, revision: str | None) -> Iterator[tuple[str, Any]]:
    """(place, row) for every row of a split.

    Raises UserError, one line that names the dataset, if it cannot be had: no library, no network, no such dataset,
    revision, config or split, columns of no known layout.
    """
    try:
        import datasets
    except ImportError:
        raise UserError('source "hub" needs the extra: pip install "fipo[hub]"') from None
    if Path(name).exists():  # which load_dataset would take
        raise UserError(f'{name}: a file or folder here has this name; read its files with source = "file"')
    commit = _commit(name, revision)
    datasets.disable_progress_bars()
    try:
        rows = datasets.load_dataset(name, config, split=split, revision=commit)
        rows = rows.select_columns(list(columns_of(rows.column_names)))
    except MalformedRow as error:
        raise UserError(f"{name}: {error}") from None
    except Exception as error:  # whatever reading, downloading or converting raises
        raise UserError(f"{name}: cannot be loaded: {_line(error)}") from None
    number = 0
    for batch in rows.iter(BATCH):  # fifteen times as fast as row by row
        for values in zip(*batch.values(), strict=True):
            number += 1
            yield f"{name}, {split} row {number}", dict(zip(batch, values, strict=True))


def _commit(name: str, revision: str | None) -> str | None:
    """The commit that `revision` stands for now, asked once: load_dataset would try for half a minute."""
    from huggingface_hub import HfApi, errors

    try:
        return HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT).sha
    except errors.OfflineModeIsEnabled:
        return revision
    except errors.GatedRepoError:
        raise UserError(f"{name}: its owner must grant access first; then log in with `hf auth login`") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{name}: the dataset has no revision {revision!r}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{name}: the hub has no dataset of this name, or a private one (`hf auth login`)") from None
    except Exception as error:  # each HTTP library has its own
        raise UserError(
            f"{name}: the hub cannot be reached: {_line(error)} (HF_HUB_OFFLINE=1 takes what was downloaded before; "
            f'source = "file" reads files from anywhere)'
        ) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
