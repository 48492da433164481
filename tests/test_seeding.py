from itertools import product

import pytest

from fipo.seeding import derive_seed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0,), 7210762507766007076),
        ((0, "rollout", 3, 1), 5935432321729462791),
        ((7, "signed_sums", "train"), 2493011932890024789),
    ],
)
def test_a_seed_is_the_same_on_every_machine_and_in_every_version(arguments, expected):
    """Another value would change every run that was ever published with a seed."""
    assert derive_seed(*arguments) == expected


def test_different_names_give_different_seeds():
    names = [(), ("a",), ("b",), (1,), ("1",), ("ab", "c"), ("a", "bc"), ("a", 1), ("a", "1"), (1, "a"), ("a", "")]
    seeds = [derive_seed(seed, *each) for seed, each in product((0, 1, 2), names)]
    assert len(set(seeds)) == len(seeds)


def test_seeds_of_neighbouring_steps_are_unlike():
    seeds = [derive_seed(0, "rollout", step) for step in range(2000)]
    assert len(set(seeds)) == 2000
    ones = [sum(seed >> bit & 1 for seed in seeds) for bit in range(63)]
    assert all(850 < count < 1150 for count in ones)  # every bit is a fair coin, within seven standard deviations


def test_a_seed_fits_where_torch_and_numpy_want_it():
    assert all(0 <= derive_seed(seed, "x") < 2**63 for seed in (*range(500), 2**80))
    assert max(derive_seed(seed) for seed in range(500)) > 2**62
