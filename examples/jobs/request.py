"""Writes a py3run request as JSON: request.py CODE.py NAME=VALUE...

If a VALUE is JSON, such as 2.5, true or [1, 2], the variable gets that value; otherwise it gets the text.
"""

import json
import os
import sys

path, *pairs = sys.argv[1:]
variables = {}
for pair in pairs:
    name, equals, value = pair.partition("=")
    if not equals:
        sys.exit(f"want NAME=VALUE, got {pair!r}")
    try:
        variables[name] = json.loads(value)
    except ValueError:
        variables[name] = value

with open(path, encoding="utf-8") as file:
    code = file.read()
json.dump({
    "code": code,
    "filename": os.path.basename(path),  # the name in tracebacks
    "variables": variables,
    "limits": {"timeout_seconds": 120, "memory_mb": 512},
    "labels": {"job": "tank-alarms"},  # py3run copies them to the audit log
}, sys.stdout)
