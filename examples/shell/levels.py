"""Reads log lines from standard input. Prints a line for each tank: alarms, last level, rise per hour."""

import datetime
import sys

tanks = {}  # name -> [alarms, [(hours, percent), ...]]

for number, line in enumerate(sys.stdin, 1):
    try:
        stamp, severity, event, *rest = line.split()
        fields = dict(word.split("=", 1) for word in rest if "=" in word)
        hours = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ").timestamp() / 3600
    except ValueError:
        sys.exit(f"line {number} is not of this log: {line.strip()!r}")  # exit code 1
    if "tank" not in fields:
        continue
    alarms_levels = tanks.setdefault(fields["tank"], [0, []])
    if severity == "ALARM":
        alarms_levels[0] += 1
    elif event == "level":
        alarms_levels[1].append((hours, float(fields["percent"])))

if not tanks:
    sys.exit(3)  # nothing to report: a code of our own, see pipeline.sh

for name, (alarms, levels) in tanks.items():
    if len(levels) < 2:
        print(f"{alarms} {name} too few levels")
        continue
    (start, first), (end, last) = levels[0], levels[-1]
    print(f"{alarms} {name} {last:.1f} % {(last - first) / (end - start):+.1f} %/h")
