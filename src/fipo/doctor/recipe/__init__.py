"""`fipo doctor`: what is wrong with a recipe, what it needs and how long it takes, before a long run."""

from fipo.doctor.recipe.diagnosis import Options, diagnose

__all__ = ["Options", "diagnose"]
