import json
import shlex
import sys
from importlib import metadata

import pytest

from fipo.extras import install_hint, requirements


class Installation:
    """What pip leaves of an installation."""

    requires = ("torch>=2.9", 'peft>=0.21; extra == "lora"', "verl>=0.9; python_version < '3.13' and extra == 'verl'")

    def __init__(self, direct_url):
        self.direct_url = direct_url

    def read_text(self, name):
        return self.direct_url and json.dumps(self.direct_url)


@pytest.fixture
def installed(monkeypatch):
    return lambda url: monkeypatch.setattr("fipo.extras.distribution", lambda _: Installation(url))


def arguments(hint):
    words = shlex.split(hint)
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    return words[4:]


@pytest.mark.parametrize("url", [None, {"url": "file:///tmp/fipo-0.7.0-py3-none-any.whl", "archive_info": {}}])
def test_beside_a_wheel_what_the_extra_needs_is_installed(url, installed):
    installed(url)
    assert arguments(install_hint("lora")) == ["peft>=0.21"]
    assert arguments(install_hint("verl")) == ["verl>=0.9"]


def test_beside_a_folder_that_is_still_there_its_extra_is(installed, tmp_path):
    (tmp_path / "pyproject.toml").touch()
    url = {"url": tmp_path.as_uri(), "dir_info": {}}
    installed(url)
    assert arguments(install_hint("lora")) == [f"{tmp_path}[lora]"]
    installed({**url, "dir_info": {"editable": True}})
    assert arguments(install_hint("lora")) == ["--editable", f"{tmp_path}[lora]"]


def test_a_folder_that_is_gone_is_not_named(installed, tmp_path):
    installed({"url": tmp_path.as_uri(), "dir_info": {"editable": True}})
    assert arguments(install_hint("lora")) == ["peft>=0.21"]


def test_every_extra_of_this_installation_is_known():
    extras = metadata.metadata("fipo").get_all("Provides-Extra")
    assert {"lora", "hub", "gym"} <= set(extras)
    assert all(requirements(extra) for extra in extras)
