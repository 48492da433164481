import pytest

from fipo.cli import main
from fipo.errors import RunStopped
from fipo.publish.push import push


def test_a_dry_run_shows_files_and_card_and_uploads_nothing(run, capsys, monkeypatch):
    monkeypatch.setattr("fipo.publish.push._upload", lambda *_, **__: pytest.fail("uploaded"))
    assert main(["push", str(run.path), "somebody/mine", "--dry-run", "--private"]) == 0
    out = capsys.readouterr().out
    assert "as somebody/mine, private: " in out and "model.safetensors  " in out and "# mine" in out
    assert out.endswith("nothing was uploaded\n") and "optimizer" not in out.partition("# mine")[0]


@pytest.mark.parametrize("name", ["mine", "a/b/c", "../x", "a b/c", "a/"])
def test_a_name_that_is_none_is_refused(name, run, capsys):
    assert main(["push", str(run.path), name]) == 2
    assert f"called OWNER/MODEL, got {name!r}" in capsys.readouterr().err


def test_a_hub_that_does_not_take_it_is_one_line(run, monkeypatch):
    def refused(*_, **__):
        raise OSError("401 Client Error\nUnauthorized")

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refused)
    with pytest.raises(RunStopped, match=r"did not take it: 401 Client Error Unauthorized \(log in with"):
        push(run, "somebody/mine", step=None, private=False, dry_run=False, say=lambda _: None)


def test_what_is_uploaded_is_the_exported_folder(run, monkeypatch):
    seen = {}

    def uploaded(self, *, repo_id, folder_path, commit_message):
        seen.update(repo=repo_id, files={path.name for path in folder_path.iterdir()})
        return "https://hub/somebody/mine"

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *_, **options: seen.update(options))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", uploaded)
    said = []
    push(run, "somebody/mine", step=1, private=True, dry_run=False, say=said.append)
    assert seen["repo"] == "somebody/mine" and seen["private"] is True
    assert {"model.safetensors", "README.md"} <= seen["files"]
    assert said[-1] == "uploaded: https://hub/somebody/mine"
