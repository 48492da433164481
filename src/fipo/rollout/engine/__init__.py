"""Decoding: the slot engine, and `generate` where a model needs that."""
