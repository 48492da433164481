"""`fipo push`: an exported model on the Hugging Face hub."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from fipo.errors import RunStopped, UserError
from fipo.hub import one_line
from fipo.publish.export import checkpoint_of, export
from fipo.telemetry.run_directory import RunDirectory

NAME = re.compile(r"[A-Za-z0-9][\w-]*(\.[\w-]+)*/[A-Za-z0-9][\w-]*(\.[\w-]+)*")


def push(
    run: RunDirectory, name: str, *, step: int | None, private: bool, dry_run: bool, say: Callable[[str], None]
) -> None:
    """Export the run's checkpoint and upload it as the model `name`; with `dry_run` show what would be uploaded.

    Raises UserError for a name that is none and for what `export` refuses, RunStopped if the hub refuses it.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"a model on the hub is called OWNER/MODEL, got {name!r}")
    checkpoint = checkpoint_of(run, step)
    with tempfile.TemporaryDirectory(prefix="fipo-push-") as place:
        folder = Path(place) / "model"
        files = export(run, folder, step=step, name=name.partition("/")[2])
        total = sum(path.stat().st_size for path in files)
        say(f"{checkpoint} as {name}, {'private' if private else 'public'}: {total / 2**20:,.1f} MiB")
        for path in files:
            say(f"  {path.name}  {path.stat().st_size:,} bytes")
        if dry_run:
            say(f"\n{(folder / 'README.md').read_text(encoding='utf-8')}")
            say("nothing was uploaded")
            return
        url = _upload(folder, name, private=private)
    say(f"uploaded: {url}")


def _upload(folder: Path, name: str, *, private: bool) -> str:
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(name, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message="Trained with fipo"))
    except Exception as error:  # each HTTP library has its own
        raise RunStopped(f"{name}: the hub did not take it: {one_line(error)} (log in with `hf auth login`)") from None
