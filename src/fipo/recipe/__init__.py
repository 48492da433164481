"""Recipes: TOML in layers, validated once."""
