"""Loaded by verl in every process that imports it: the entry point `fipo` of the group `verl.plugins`.

What is raised here, verl hides; `config.FIPOPolicyLossConfig` finds out and says it.
"""

import os

from fipo.integrations.verl.compat import check_interface
from fipo.integrations.verl.policy_loss import register

if os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu":
    from fipo.integrations.verl.rehearsal import platform, registration  # noqa: F401

check_interface()
register()
