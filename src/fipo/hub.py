"""Asking the Hugging Face hub whether it has something, once: its libraries would try for minutes without a network."""

from typing import Literal

from fipo.errors import UserError


class OutOfReach(UserError):
    """The hub, or the library that reads it, cannot be had here and now."""


TIMEOUT = 10.0  # seconds that the hub has for its first answer


def commit_of(kind: Literal["dataset", "model"], name: str, revision: str | None = None) -> str | None:
    """The commit that `revision` stands for now; `revision` itself with HF_HUB_OFFLINE=1.

    Raises UserError, one line with the name, if the hub cannot be reached or does not give it out.
    """
    from huggingface_hub import HfApi, errors

    try:
        ask = HfApi().dataset_info if kind == "dataset" else HfApi().model_info
        return ask(name, revision=revision, timeout=TIMEOUT).sha
    except errors.OfflineModeIsEnabled:
        return revision
    except errors.GatedRepoError:
        raise UserError(f"{name}: its owner must grant access first; then log in with `hf auth login`") from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{name}: the {kind} has no revision {revision!r}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(f"{name}: the hub has no {kind} of this name, or a private one (`hf auth login`)") from None
    except Exception as error:  # each HTTP library has its own
        nearer = 'source = "file" reads files from anywhere' if kind == "dataset" else "there is no such folder here"
        raise OutOfReach(
            f"{name}: the hub cannot be reached: {one_line(error)} "
            f"(HF_HUB_OFFLINE=1 takes what was downloaded before; {nearer})"
        ) from None


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
