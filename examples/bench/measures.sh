#!/usr/bin/env bash
# What each measure costs at the start: the same empty job with it and without it, run in turns. Medians and minima of paired differences, in ms.
# PYTHON names the interpreter, RUNS the number of pairs. As root all of them can be had.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${PYTHON:-$(command -v python3)}
python=$("$python" -c 'import sys; print(sys.executable)')
(cd "$here/../.." && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/py3run" .)
export PY3RUN_SECURITY_AUDIT_DIR=$work/audit XDG_CACHE_HOME=$work/cache
"$python" - "$work/py3run" "$python" "${RUNS:-60}" <<'PY'
import os, statistics, subprocess, sys, time
py3run, python, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
base = [py3run, "run", "--python", python]
measures = [  # name, options with it, options without
    ("control group: memory and processes", [], ["--set", "security.isolation.cgroup-parent=none"]),
    ("control group: memory limit", [], ["--memory-mb", "0"]),
    ("control group: process limit", [], ["--processes", "0"]),
    ("CPU quota", ["--set", "security.max-cpus=8"], []),
    ("byte rates", ["--set", "security.max-read-mb-per-second=100000"], []),
    ("seccomp list, read-only kernel settings", [], ["--set", "security.isolation.seccomp=off"]),
    ("native trail", [], ["--set", "security.audit.native=off"]),
    ("write-dirs", ["--set", 'security.isolation.write-dirs=["/srv"]'], []),
    ("read-dirs", ["--set", 'security.isolation.read-dirs=["/srv"]'], []),
    ("network none", ["--network", "none"], []),
    ("minimal /dev", ["--set", "security.isolation.dev=minimal"], []),
    ("CPU limit", [], ["--cpu-seconds", "0"]),
    ("disk limit", [], ["--disk-mb", "0"]),
    ("namespaces", [], ["--method", "process"]),
    ("nothing (what chance gives)", [], []),
]

def once(options):
    start = time.perf_counter()
    subprocess.run(base + options + ["-c", "pass"], check=True, stdin=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1e3

print("| measure | median of differences | difference of minima |\n|---|---|---|")
for name, with_it, without in measures:
    pairs = []
    for i in range(runs + 3):
        order = [(with_it, 0), (without, 1)] if i % 2 else [(without, 1), (with_it, 0)]
        took = [0, 0]
        for options, slot in order:
            took[slot] = once(options)
        if i >= 3:
            pairs.append(took)
    print(f"| {name} | {statistics.median(a - b for a, b in pairs):+.2f} | {min(a for a, _ in pairs) - min(b for _, b in pairs):+.2f} |", flush=True)
PY
