"""The snippet of docs/integrations.md runs, and does what our own update does."""

import copy
import re
from pathlib import Path
from typing import Any

import torch
from tests.conftest import random_model
from tests.training.helpers import random_groups, trainer_of

from fipo.objective import ALGORITHMS, group_advantages
from fipo.training.passes.logprobs import old_scores, score
from fipo.training.passes.packing import pack
from fipo.training.update import update


def test_the_snippet_in_the_docs_steps_as_our_own_update_does(repository: Path) -> None:
    text = (repository / "docs" / "integrations.md").read_text()
    (snippet,) = re.findall(r"<!-- tests/\S+ runs this -->\n```python\n(.*?)```", text, re.DOTALL)
    model = random_model(scale=4.0).double()
    groups = random_groups(4, 4)
    advantages = group_advantages(torch.tensor([[float(g.correct) for g in group.grades] for group in groups]))
    packs = pack(
        groups,
        advantages,
        mini_batches=2,
        tokens_per_micro_batch=48,
        mask_truncated=False,
        layout="padded",
        device=torch.device("cpu"),
    )
    old = [old_scores(model, part, 1.0, lambda: None) for part in packs]
    ours = copy.deepcopy(model)
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.05)
    for part, scores in zip(packs, old, strict=True):
        update(trainer_of(ours, ALGORITHMS["release_32b"], optimizer), part, scores, None)

    which = {id(each.loss_mask): each for part in packs for each in part}
    mini_batches = [
        [
            {"old_logprobs": before.logprobs, "advantages": each.advantages, "loss_mask": each.loss_mask}
            for each, before in zip(part, scores, strict=True)
        ]
        for part, scores in zip(packs, old, strict=True)
    ]
    names: dict[str, Any] = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.05),
        "mini_batches": mini_batches,
        "score": lambda model, part: score(model, which[id(part["loss_mask"])], 1.0, entropy=False).logprobs,
    }
    exec(compile(snippet, "docs/integrations.md", "exec"), names)

    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, ours.get_parameter(name), rtol=1e-12, atol=1e-14)
