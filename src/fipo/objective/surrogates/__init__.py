"""The surrogates: a file for each, which reads beside its equation, and a row here."""

from fipo.objective.surrogates.base import Surrogate, Tokens
from fipo.objective.surrogates.cispo import CISPO
from fipo.objective.surrogates.clipped import Clipped
from fipo.objective.surrogates.dppo_kl import DPPOKL
from fipo.objective.surrogates.dppo_tv import DPPOTV
from fipo.objective.surrogates.gmpo import GMPO
from fipo.objective.surrogates.gspo import GSPO
from fipo.objective.surrogates.sapo import SAPO

# Each is a preset of its name, without FIPO's weights, and one of that name after "fipo_", with them.
SURROGATES: tuple[type[Surrogate], ...] = (
    GSPO,
    SAPO,
    CISPO,
    DPPOTV,
    DPPOKL,
    GMPO,
)

__all__ = ["SURROGATES", "Clipped", "Surrogate", "Tokens"]
