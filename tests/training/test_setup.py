import pytest

from fipo.training import setup


def test_kernels_that_do_not_run_are_named_in_one_line_for_each_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for module, reason in ((setup.fused, "no gcc"), (setup.logprobs, "no gcc"), (setup.slots, "other numbers")):
        monkeypatch.setattr(module, "obstacle", lambda reason=reason: reason)
    setup._note_slower_ways(said.append)
    assert said == [
        "note: by torch's operations, which is slower: the objective, scoring: no gcc",
        "note: by torch's operations, which is slower: attention of sampling: other numbers",
    ]
    monkeypatch.setattr(setup.slots, "obstacle", lambda: None)
    monkeypatch.setattr(setup.fused, "obstacle", lambda: None)
    monkeypatch.setattr(setup.logprobs, "obstacle", lambda: None)
    said.clear()
    setup._note_slower_ways(said.append)
    assert not said
