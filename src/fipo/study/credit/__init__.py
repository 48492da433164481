"""Does f point at the right tokens? Asked offline, where true advantages are known: docs/evidence/credit_truth.md.

`python -m fipo.study.credit recipe/study/credit_truth.toml` measures what is missing, one checkpoint after another.
"""
