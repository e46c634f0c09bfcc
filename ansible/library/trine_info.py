#!/usr/bin/python
"""Asks a Trine server how it is, and waits until it serves."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.trine_server import SERVER_ARGUMENTS, ReplyError, await_server, connect

DOCUMENTATION = r"""
module: trine_info
short_description: Reads the state of a Trine server
description:
  - Waits until the server answers PING, is not loading its data, and says C(cluster_state:ok) with every slot covered.
  - Can leave a value with the server and look for it later, to see that a restart kept it.
options:
  host: {description: The address that it listens on., required: true, type: str}
  port: {description: The gateway's port., default: 7000, type: int}
  password: {description: The password that clients authenticate with., type: str}
  timeout: {description: The longest time to wait until it is ready, in seconds., default: 60, type: int}
  slots: {description: The number of slots that the cluster has to cover; 0 for a server without a topology., default: 16384, type: int}
  keep: {description: A value to write, under a key that the server owns; it expires after an hour., type: str}
  expect: {description: The value that an earlier call wrote; it is deleted when it was found., type: str}
author: [The Trine authors]
"""

EXAMPLES = r"""
- name: Wait until the server serves
  trine_info:
    host: 10.0.0.1
    password: "{{ server_password }}"
"""

RETURN = r"""
info: {description: The fields of INFO., type: dict, returned: always}
cluster: {description: The fields of CLUSTER INFO., type: dict, returned: always}
keys: {description: The number of its keys., type: int, returned: always}
waited_s: {description: The seconds until it was ready., type: float, returned: always}
"""

# A server owns the slot of one in a few of these, also in a cluster of hundreds.
CANARIES = 4096


def owned(server, command, *words):
    """Runs a command on the first of the canary keys that this server owns."""
    for number in range(CANARIES):
        try:
            return server.ask(command, f"trine:canary:{number}", *words)
        except ReplyError as error:
            if not str(error).startswith("MOVED"):
                raise
    raise ReplyError("ERR this server owns no slot, or next to none")


def canary(module):
    """Leaves the value to keep, or looks for the one expected."""
    keep, expect = module.params["keep"], module.params["expect"]
    with connect(module.params) as server:
        if keep is not None:
            owned(server, "SET", keep, "EX", "3600")
        if expect is not None:
            value = owned(server, "GET")
            if value != expect:
                where = f"{module.params['host']}:{module.params['port']}"
                module.fail_json(msg=f"{where} has lost what it acknowledged: expected {expect}, found {value}")
            owned(server, "DEL")


def main():
    """Runs the module."""
    arguments = {**SERVER_ARGUMENTS, "keep": {"type": "str"}, "expect": {"type": "str"}}
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    found = await_server(module)
    if not module.check_mode:
        canary(module)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
