"""Prompts to responses: samplers, groups, dynamic sampling."""
