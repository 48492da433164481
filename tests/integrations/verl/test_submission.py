"""`fipo launch` against a real Ray cluster on this machine, with token authentication, as Ray starts one."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest

pytest.importorskip("verl", reason="verl is not installed here; make test-verl has it")

from fipo.integrations.verl.launch.keys import overrides_of
from fipo.integrations.verl.launch.recipe import load_launch_recipe

pytestmark = pytest.mark.slow
RECIPE = Path(__file__).parents[3] / "recipe" / "fipo" / "fipo_qwen2.5_32b.toml"
BIN = Path(sys.executable).parent
PROBE = """
import os, sys, time
print("cwd holds", sorted(os.listdir(".")))
print("environment", os.environ["TRAVELS"])
print("overrides", len(sys.argv), sys.argv[1], flush=True)
time.sleep(float(os.environ["SECONDS"]))
sys.exit(int(os.environ["CODE"]))
"""

OVERRIDES = f"overrides {1 + len(overrides_of(load_launch_recipe(RECIPE, {}, {})))}"
LINES = ("cwd holds ['probe.py']\n", "environment yes\n", f"{OVERRIDES} data.prompt_key=prompt\n")


@pytest.fixture(scope="module")
def cluster():
    """The environment of somebody who may use the cluster."""
    port = free_port()
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # short: Ray's sockets lie in it
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ADDRESS": f"http://127.0.0.1:{port}",
    }
    local = ["--dashboard-host=127.0.0.1", f"--dashboard-port={port}", "--port=0"]
    log = Path(folder, "head.log")
    with log.open("w") as file:
        head = subprocess.Popen(
            [BIN / "ray", "start", "--head", "--block", "--include-dashboard=true", *local, f"--temp-dir={folder}"],
            env={name: value for name, value in environment.items() if name != "RAY_ADDRESS"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(lambda: answers(environment["RAY_ADDRESS"]), what=log.read_text)
        yield environment
    finally:
        head.terminate()  # it ends what it started
        head.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def launch(cluster, tmp_path):
    """Starts `fipo launch` of a job that sleeps and ends with a code; its output goes to `tmp_path/out`."""

    def start(*options, code=0, seconds=0):
        work = tmp_path / "work dir"
        work.mkdir(exist_ok=True)
        (work / "probe.py").write_text(PROBE)
        runtime_env = tmp_path / "env.yaml"
        runtime_env.write_text(
            f'env_vars: {{TRAVELS: "yes", CODE: "{code}", SECONDS: "{seconds}", PYTHONDONTWRITEBYTECODE: "1"}}\n'
        )
        with (tmp_path / "out").open("w") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "fipo.cli", "launch", RECIPE, "--job.entry_point", "probe", *options],
                env={**cluster, "WORKING_DIR": str(work), "RUNTIME_ENV": str(runtime_env)},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    return start


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answers(address):
    try:
        urlopen(address, timeout=5).close()
    except HTTPError:
        return True  # it wants a token
    except (URLError, OSError):
        return False
    return True


def wait_for(condition, *, what, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.2)


def test_a_job_runs_in_its_working_directory_and_environment_and_its_log_is_followed(launch, tmp_path):
    assert launch().wait(120) == 0, (tmp_path / "out").read_text()
    out = (tmp_path / "out").read_text()
    for line in LINES:
        assert line in out
    assert re.search(r"job raysubmit_\w+ succeeded\n\Z", out)


def test_a_shell_does_the_same_with_the_command_that_a_dry_run_prints(launch, cluster, tmp_path):
    assert launch("--dry-run").wait(60) == 0
    done = subprocess.run(
        (tmp_path / "out").read_text(), shell=True, env=cluster, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for line in LINES:
        assert line in done.stdout


def test_a_job_that_fails_is_the_commands_failure(launch, tmp_path):
    assert launch(code=3).wait(120) == 1
    assert re.search(r"fipo: job raysubmit_\w+ ended as FAILED: ray job logs ", (tmp_path / "out").read_text())


def test_after_ctrl_c_the_job_goes_on_until_the_printed_command_stops_it(launch, cluster, tmp_path):
    following = launch(seconds=600)
    read = (tmp_path / "out").read_text
    wait_for(lambda: OVERRIDES in read(), what=read)
    following.send_signal(signal.SIGINT)
    assert following.wait(60) == 130
    (stop,) = re.findall(r"the job goes on: .*, (ray job stop .*)", read())
    stopped = subprocess.run(stop, shell=True, env=cluster, capture_output=True, text=True, timeout=120)
    assert stopped.returncode == 0 and "was stopped" in stopped.stdout + stopped.stderr


def test_without_the_token_one_line_says_what_to_set(cluster, tmp_path):
    refused = subprocess.run(
        [sys.executable, "-m", "fipo.cli", "launch", RECIPE],
        env={**cluster, "RAY_AUTH_MODE": "disabled", "WORKING_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1 and "set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN" in refused.stderr
