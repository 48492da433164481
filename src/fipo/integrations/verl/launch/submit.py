"""A job handed to Ray's own job API, and its log followed."""

import asyncio
from pathlib import Path
from typing import Any

from fipo.errors import RunStopped, UserError
from fipo.extras import install_hint
from fipo.integrations.verl.launch.recipe import Destination


def submit(place: Destination, entrypoint: str) -> None:
    """Submit the job and print its log until it ends.

    Raises UserError where Ray is missing or cannot be reached; RunStopped, with what to do next, for a job that did
    not succeed and where the log is no longer followed, by Ctrl-C or because the connection broke: the job goes on.
    """
    try:
        from ray.exceptions import AuthenticationError, RayError
        from ray.job_submission import JobSubmissionClient
    except ImportError:
        raise UserError(f"fipo launch needs Ray: {install_hint('verl')}, or look with --dry-run") from None
    environment = runtime_env(place)
    try:
        client = JobSubmissionClient(place.address)
        job = client.submit_job(entrypoint=entrypoint, runtime_env=environment)
    except AuthenticationError as error:
        raise UserError(
            f"RAY_ADDRESS {place.address} took no job: {_first_line(error)}; "
            "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token"
        ) from None
    except (RayError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"RAY_ADDRESS {place.address} took no job: {_first_line(error)}") from None
    print(f"job {job} submitted to {place.address}", flush=True)
    _follow(client, job, place.address)


def _follow(client: Any, job: str, address: str) -> None:
    options = f"--address={address} {job}"
    later = f"the job goes on: ray job logs --follow {options}, ray job stop {options}"
    try:
        asyncio.run(_print_log(client, job))
        status = str(getattr(client.get_job_status(job), "value", ""))
    except KeyboardInterrupt:
        raise RunStopped(f"no longer following {job}; {later}", exit_code=130) from None
    except Exception as error:  # whatever broke the connection, the job does not know of it
        raise RunStopped(f"lost the log of {job} ({_first_line(error)}); {later}") from None
    if status in ("PENDING", "RUNNING"):
        raise RunStopped(f"the log of {job} ended early; {later}")
    if status != "SUCCEEDED":
        raise RunStopped(f"job {job} ended as {status}: ray job logs {options}")
    print(f"job {job} succeeded")


async def _print_log(client: Any, job: str) -> None:
    async for text in client.tail_job_logs(job):
        print(text, end="", flush=True)


def runtime_env(place: Destination) -> dict[str, Any]:
    """The YAML file with the working directory in it, as `ray job submit` puts them together.

    Raises UserError for a folder or a file that is not what it must be.
    """
    if "://" not in place.working_dir and not Path(place.working_dir).is_dir():
        raise UserError(f"WORKING_DIR must be a folder, got {place.working_dir}")
    return {**environment_file(place), "working_dir": place.working_dir}


def environment_file(place: Destination) -> dict[str, Any]:
    """Ray's runtime environment as its file has it, {} where there is none. Raises UserError for what is none."""
    found: Any = {}
    if place.runtime_env:
        import yaml

        try:
            found = yaml.safe_load(Path(place.runtime_env).read_text(encoding="utf-8")) or {}
        except yaml.YAMLError as error:
            raise UserError(f"{place.runtime_env}: not YAML: {_first_line(error)}") from None
    if not isinstance(found, dict):
        raise UserError(f"{place.runtime_env}: must be a table of Ray's runtime environment, got {found!r}")
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
