#!/usr/bin/python
"""Sets files of /proc/sys, /sys and /proc/irq, remembers what they were, and puts it back."""

from __future__ import annotations

import glob
import json
import os
import re
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: trine_knobs
short_description: Sets knobs of the kernel so that they can be put back
description:
  - Writes values into files such as C(/proc/sys/net/core/somaxconn). What a file had before is written down first, once, in a
    state file that later runs add to and never change.
  - A knob that is not there, is read-only or refuses its value is left out with a message.
options:
  state: {description: Whether to set knobs or to put everything back., choices: [applied, restored], default: applied, type: str}
  state_file: {description: Where the values found before are kept., required: true, type: path}
  knobs:
    description: What to set.
    type: list
    elements: dict
    suboptions:
      path: {description: The file, or a pattern that files match., required: true, type: str}
      value: {description: Its value., required: true, type: str}
      at_least: {description: Leave a number alone that is higher., default: false, type: bool}
author: [The Trine authors]
"""

EXAMPLES = r"""
- name: Accept many connections at once
  trine_knobs:
    state_file: /var/lib/trine-host/found.json
    knobs:
      - {path: /proc/sys/net/core/somaxconn, value: "4096", at_least: true}
- name: Put everything back
  trine_knobs:
    state: restored
    state_file: /var/lib/trine-host/found.json
"""

RETURN = r"""
values: {description: What the knobs that can be set have now., type: list, elements: dict, returned: when applied}
skipped_knobs: {description: Settings that were left out, with reasons., type: list, elements: str, returned: always}
restored: {description: What was put back., type: list, elements: dict, returned: when restored}
"""


def read(path):
    """The value of a knob, in one spelling. Of several choices the one in brackets."""
    with open(path, encoding="ascii", errors="replace") as file:
        text = file.read()
    chosen = re.search(r"\[(\S+)\]", text)
    return " ".join((chosen.group(1) if chosen else text).split())


def write(path, value):
    """Sets a knob: one write, as the kernel wants it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(descriptor, f"{value}\n".encode())
    finally:
        os.close(descriptor)


def same(path, one, other):
    """Whether two spellings mean the same: lists of CPUs have several."""
    return one == other or (path.endswith("_list") and cpus(one) == cpus(other))


def cpus(text):
    """The CPUs of a list such as 0-3,6; None where it is none."""
    found = set()
    try:
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    except ValueError:
        return None
    return found


def load(state_file):
    """What was found before, by path."""
    try:
        with open(state_file, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}


def save(state_file, found):
    """Writes the state file so that a crash leaves the old one or the new one."""
    folder = os.path.dirname(state_file)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    descriptor, beside = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(beside, 0o644)
    os.rename(beside, state_file)


def forget(state_file):
    """Removes the state file, and its folder where nothing else is in it."""
    os.unlink(state_file)
    try:
        os.rmdir(os.path.dirname(state_file))
    except OSError:
        pass


def wanted(knob, found):
    """The value to set, in view of the one there is."""
    value = " ".join(str(knob["value"]).split())
    if knob["at_least"] and found.isdigit() and value.isdigit():
        return str(max(int(found), int(value)))
    return value


class Applied:
    """What became of each knob."""

    def __init__(self, module):
        self.module, self.state_file = module, module.params["state_file"]
        self.found = load(self.state_file)
        self.values, self.skipped, self.before, self.after = [], [], [], []

    def pattern(self, knob):
        """Sets every file that a knob's path matches."""
        paths = sorted(glob.glob(knob["path"]))
        if not paths:
            self.skipped.append(f"{knob['path']}: not on this host")
        for path in paths:
            try:
                self.file(knob, path)
            except OSError as error:
                self.skipped.append(f"{path}: {error.strerror}")

    def file(self, knob, path):
        """Sets one file."""
        now = read(path)
        value = wanted(knob, now)
        if not same(path, now, value):
            if not os.access(path, os.W_OK):
                self.skipped.append(f"{path}: is {now} and cannot be changed here")
                return
            if not self.module.check_mode and not self.set(path, now, value):
                return
            self.before.append(f"{path} = {now}")
            self.after.append(f"{path} = {value}")
        self.values.append({"path": path, "value": value})

    def set(self, path, now, value):
        """Writes down what there was, then sets it. Returns whether the kernel took it."""
        first = path not in self.found
        if first:
            self.found[path] = now
            save(self.state_file, self.found)
        try:
            write(path, value)
            return True
        except OSError as error:
            self.skipped.append(f"{path}: is {now}, and refuses {value}: {error.strerror}")
        if first:
            del self.found[path]
            save(self.state_file, self.found)
        return False


def applied(module):
    """Sets the knobs."""
    done = Applied(module)
    for knob in module.params["knobs"]:
        done.pattern(knob)
    module.exit_json(
        changed=bool(done.after),
        values=done.values,
        skipped_knobs=done.skipped,
        diff=difference(done.before, done.after),
    )


def restored(module):
    """Puts back what was found."""
    state_file = module.params["state_file"]
    there_is_one = os.path.exists(state_file)
    found, back, skipped, before, failed = load(state_file), [], [], [], []
    for path, value in sorted(found.items()):
        try:
            now = read(path)
            if same(path, now, value):
                continue
            if not module.check_mode:
                write(path, value)
            before.append(f"{path} = {now}")
            back.append({"path": path, "value": value})
        except FileNotFoundError:
            skipped.append(f"{path}: no longer on this host")
        except OSError as error:
            failed.append(f"{path} = {value}: {error.strerror}")
    if failed:
        module.fail_json(msg=f"could not be put back (kept in {state_file}): {'; '.join(failed)}", restored=back)
    if there_is_one and not module.check_mode:
        forget(state_file)
    after = [f"{knob['path']} = {knob['value']}" for knob in back]
    module.exit_json(
        changed=there_is_one, restored=back, skipped_knobs=skipped, diff=difference(before, after)
    )


def difference(before, after):
    """What --diff shows."""
    text = ["".join(f"{line}\n" for line in lines) for lines in (before, after)]
    return {"before_header": "found", "after_header": "set", "before": text[0], "after": text[1]}


def main():
    """Runs the module."""
    knob = {
        "path": {"type": "str", "required": True},
        "value": {"type": "str", "required": True},
        "at_least": {"type": "bool", "default": False},
    }
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["applied", "restored"], "default": "applied"},
            "state_file": {"type": "path", "required": True},
            "knobs": {"type": "list", "elements": "dict", "options": knob, "default": []},
        },
        supports_check_mode=True,
    )
    if module.params["state"] == "applied":
        applied(module)
    restored(module)


if __name__ == "__main__":
    main()
