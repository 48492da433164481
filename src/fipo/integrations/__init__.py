"""Plugs for other trainers: they translate names and leave the math to `fipo.objective`; `shared.py` is for both."""
