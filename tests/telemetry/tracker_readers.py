"""What each library wrote, as {step: {key: value}}, by its own reader or file format. No step is there twice."""

import json
import os
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

Steps = dict[int, dict[str, float]]


def need(library: str) -> None:
    spec = find_spec(library)
    if spec is None or spec.origin is None:
        pytest.skip(f"{library} is not installed")


def read_tensorboard(folder: Path) -> Steps:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    found = [
        (event.step, key, float(make_ndarray(event.tensor_proto)))
        for key in events.Tags()["tensors"]
        for event in events.Tensors(key)
    ]
    return collect(found)


def read_wandb(folder: Path) -> Steps:
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for path in sorted(folder.glob("offline-run-*/run-*.wandb")):
        for content in log_records(path):
            record = Record.FromString(content)
            if record.WhichOneof("record_type") != "history":
                continue
            row = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
            step = row.pop("_step", record.history.step.num)
            found += [(int(step), key, value) for key, value in row.items() if not key.startswith("_")]
    return collect(found)


def read_swanlab(folder: Path) -> Steps:
    from swanlab.proto.swanlab.record.v1.record_pb2 import Record
    from swanlab.sdk.internal.core_python.store import DataStoreReader

    found = []
    for path in sorted(folder.glob("run-*/run-*.swanlab")):
        reader = DataStoreReader()
        reader.open(path)
        for content in reader:
            record = Record.FromString(content)
            if record.WhichOneof("record_type") == "scalar":
                found.append((record.scalar.step, record.scalar.key, record.scalar.value.number))
        reader.close()
    return collect(found)


def read_trackio(folder: Path) -> Steps:
    code = "import json, trackio.sqlite_storage as s; print(json.dumps(s.SQLiteStorage.get_all_logs_for_sync('fipo')))"
    printed = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"TRACKIO_DIR": str(folder)}, capture_output=True, check=True
    )
    rows = json.loads(printed.stdout)
    return collect([(row["step"], key, value) for row in rows for key, value in row["metrics"].items()])


READERS = {
    "tensorboard": read_tensorboard,
    "wandb": read_wandb,
    "swanlab": read_swanlab,
    "trackio": read_trackio,
}


def collect(found: list[tuple[int, str, float]]) -> Steps:
    steps: Steps = defaultdict(dict)
    for step, key, value in found:
        assert key not in steps[step], f"step {step} has {key} twice"
        steps[step][key] = value
    return dict(sorted(steps.items()))


def log_records(path: Path) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format, in which wandb writes, after its 7 bytes of header."""
    content, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # no room for a record's header: the block is padded
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""
