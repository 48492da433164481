"""Other weights in place of FIPO's, so that a study can tell credit from its side effects."""

from dataclasses import dataclass

from fipo.objective import Influence


@dataclass(frozen=True, kw_only=True)
class Control:
    """What `policy_loss(influence=...)` gets in every update of a run. `--resume` needs the one it began with."""

    name: str
    influence: Influence
