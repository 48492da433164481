"""Seeds as pure functions of names, so that no random stream depends on what ran before it."""

from hashlib import blake2b


def derive_seed(seed: int, *names: str | int) -> int:
    """A 63-bit seed for the stream called `names`, e.g. `derive_seed(0, "rollout", step, batch)`."""
    text = repr((seed, *names)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1
