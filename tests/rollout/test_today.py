from datetime import date

from transformers.utils import chat_template_utils

from fipo.rollout.today import today_is


def today():
    return chat_template_utils.datetime.now().strftime("%Y-%m-%d")


def test_the_day_is_the_given_one_inside_and_the_real_one_outside():
    with today_is("2024-02-29"):
        assert today() == "2024-02-29"
    assert today() >= date.today().isoformat() > "2024-02-29"


def test_no_day_is_today():
    with today_is(None):
        assert today() >= date.today().isoformat()
