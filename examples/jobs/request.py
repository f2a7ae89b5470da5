"""Writes a py3run request as JSON: request.py CODE.py NAME=VALUE...

A VALUE that is JSON is taken as that (2.5, true, [1, 2]), all else is text.
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
    "labels": {"job": "tank-alarms"},  # goes to the audit log
}, sys.stdout)
