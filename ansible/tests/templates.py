#!/usr/bin/env python3
"""Renders the templates that hold texts of the operator's by Ansible, and reads them as the programs do that they are for.

    templates.py        Status 0: all is well, or what it needs is missing, which it says.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROLES = pathlib.Path(__file__).resolve().parent.parent / "roles"
# What a password may hold: quotes, what JSON and TOML escape otherwise, and a character beyond U+FFFF.
TEXT = 'a"b\\c \t grüße \U0001f600 \x7f #1'


def rendered(template: pathlib.Path, variables: dict, folder: pathlib.Path) -> str:
    """What Ansible makes of a template."""
    target = folder / "rendered"
    given = folder / "variables.json"
    given.write_text(json.dumps(variables))
    arguments = ["ansible", "localhost", "-c", "local", "-e", f"@{given}"]
    arguments += ["-e", f"ansible_python_interpreter={sys.executable}"]
    arguments += ["-m", "ansible.builtin.template", "-a", json.dumps({"src": str(template), "dest": str(target)})]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"templates.py: {template}: {done.stdout}{done.stderr}")
    return target.read_text(encoding="utf-8")


def main() -> int:
    """Checks each template."""
    if not shutil.which("ansible"):
        print("templates.py: skipped: ansible is not installed")
        return 0
    server = {"server_bind": "10.0.0.1", "server_port": 7000, "server_cores": 2, "server_cpus": "0-1"}
    server |= {"server_folder": "/etc/trine/a", "server_directory": "/var/lib/trine/a", "server_open": False}
    metrics = {"metrics_interval": "5s", "metrics_targets_file": "/etc/targets.json", "metrics_settings": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        variables = server | {"server_name": "a", "server_password": TEXT, "server_settings": {"log": TEXT}}
        toml = tomllib.loads(rendered(ROLES / "server/templates/trine.toml.j2", variables, folder))
        assert (toml["requirepass"], toml["log"]) == (TEXT, TEXT), toml
        assert (toml["port"], toml["cpus"]) == (7000, "0-1"), toml
        yaml = rendered(ROLES / "metrics/templates/scrape.yml.j2", metrics | {"metrics_password": TEXT}, folder)
        line = next(line for line in yaml.splitlines() if "basic_auth" in line)
        # What stands there is JSON too, without the escapes that YAML reads otherwise.
        password = line.split("password: ", 1)[1].removesuffix("}")
        assert json.loads(password) == TEXT and "\\ud" not in line, line
    print("templates.py: texts come out as they were put in")
    return 0


if __name__ == "__main__":
    sys.exit(main())
