"""A template's operations that no deadline could interrupt are refused before they begin."""

import time

import pytest
from jinja2.exceptions import SecurityError

from fipo.rollout.sandbox import Bounded

HUGE = [
    "{{ 'x' * 10**12 }}",
    "{{ 10**12 * 'x' }}",
    "{{ [0] * 10**10 }}",
    "{{ 10 ** (10 ** 9) }}",
    "{{ 10**1000 * 10**1000 }}",
    "{{ 'x'.ljust(10**12) }}",
    "{{ 'x'.zfill(width=10**12) }}",
    "{{ 'x' | center(10**12) }}",
    "{{ 'x' | indent(width=10**12, first=true) }}",
    "{{ '%999999999999d' % 1 }}",
    "{{ '%*d' % (10**12, 1) }}",
    "{{ '%999999999s' | format('x') }}",
    "{{ '{:>999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 999999999) }}",
    "{{ range(99999) | join('x' * 99999) }}",
    "{{ ('x' * 99999).replace('', 'y' * 99999) }}",
    "{{ ('x' * 99999) | replace('x', 'y' * 99999) }}",
    "{{ ('x' * 99999).join('y' * 99999) }}",
    "{% set ns = namespace(s='x') %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
]


@pytest.mark.parametrize("template", HUGE)
def test_an_operation_that_makes_too_much_is_refused_before_it_begins(template):
    begun = time.monotonic()
    with pytest.raises(SecurityError, match="must"):
        Bounded().from_string(template).render()
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ '-' * 3 }}", "---"),
        ("{{ 3 * '-' }}", "---"),
        ("{{ 2 ** 10 * 3 + 1 }}", "3073"),
        ("{{ 7 % 4 }}", "3"),
        ("{{ '%s is %5.2f' % ('x', 1.5) }}", "x is  1.50"),
        ("{{ 'x'.ljust(3) ~ '|' }}", "x  |"),
        ("{{ 'a b' | replace(' ', '-') | upper }}", "A-B"),
        ("{{ 1.5 * 2 }}", "3.0"),
        ("{{ [1] + [2] }}", "[1, 2]"),
        ("{{ '{}: {:>3}'.format('a', 1) }}", "a:   1"),
        ("{{ [1, 2] | join(', ') }}", "1, 2"),
        ("{{ 'up 5% to 123456 {a: 12345}' | replace('up', 'Up') }}", "Up 5% to 123456 {a: 12345}"),
        ("{{ 'up 5% to 123456'.split(' ')[0] }}", "up"),
        ("{{ ('x' * 99999).replace('x' * 99999, '') }}", ""),
        ("{{ [3, 1] | sort | first | string | default('x') }}", "1"),
        ("{{ [{'a': 1}] | map(attribute='a') | list }}", "[1]"),
        ("{{ [1, 2, 3] | select('odd') | list | length }}", "2"),
    ],
)
def test_what_templates_do_is_as_it_was(template, text):
    assert Bounded().from_string(template).render() == text
