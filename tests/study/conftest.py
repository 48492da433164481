from pathlib import Path

import pytest

SMALL = """
extends = "{quickstart}"
[run]
steps = 2
[data]
eval = {{ count = 6 }}
[rollout]
groups = 3
group_size = 4
generation_batch = 3
max_generation_batches = 1
max_response_tokens = 32
[update]
mini_batches = {mini_batches}
[eval]
samples = 2
"""


@pytest.fixture
def write_study(tmp_path: Path):
    """A study in a folder, on a recipe of seconds: gives its path."""

    def write(arms: str, contrasts: str = '[["fipo", "dapo"]]', seeds: int = 2, mini_batches: int = 3) -> Path:
        quickstart = Path(__file__).parents[2] / "recipe" / "quickstart.toml"
        (tmp_path / "base.toml").write_text(SMALL.format(quickstart=quickstart, mini_batches=mini_batches))
        path = tmp_path / "study.toml"
        path.write_text(
            f'[study]\nname = "s"\nfolder = "{tmp_path}/studies"\nrecipe = "base.toml"\nseeds = {seeds}\n'
            f"processes = 2\ncontrasts = {contrasts}\n{arms}"
        )
        return path

    return write
