#!/usr/bin/python
"""Restarts a Trine server and waits until it serves again."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.trine_server import SERVER_ARGUMENTS, await_server

DOCUMENTATION = r"""
module: trine_restart
short_description: Restarts a Trine server and waits until it is ready
description:
  - One task, so that with C(throttle) at 1 no server is restarted before the last one serves again.
options:
  unit: {description: The service., default: trine, type: str}
  host: {description: The address that it listens on., required: true, type: str}
  port: {description: The gateway's port., default: 7000, type: int}
  password: {description: The password that clients authenticate with., type: str}
  timeout: {description: The longest time to wait until it is ready, in seconds., default: 60, type: int}
  slots: {description: The number of slots that the cluster has to cover; 0 for a server without a topology., default: 16384, type: int}
author: [The Trine authors]
"""

EXAMPLES = r"""
- name: Restart one server after the other
  trine_restart:
    host: 10.0.0.1
    password: "{{ server_password }}"
  throttle: 1
"""

RETURN = r"""
waited_s: {description: The seconds from the restart until it was ready., type: float, returned: always}
"""


def main():
    """Runs the module."""
    arguments = {**SERVER_ARGUMENTS, "unit": {"type": "str", "default": "trine"}}
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    if module.check_mode:
        module.exit_json(changed=True)
    systemctl = module.get_bin_path("systemctl", required=True)
    for words in (["daemon-reload"], ["restart", module.params["unit"]]):
        module.run_command([systemctl, *words], check_rc=True)
    module.exit_json(changed=True, waited_s=await_server(module)["waited_s"])


if __name__ == "__main__":
    main()
