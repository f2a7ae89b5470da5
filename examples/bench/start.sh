#!/usr/bin/env bash
# What a start costs: py3run beside the bare interpreter in the same sitting, and beside bubblewrap where that is installed.
# Ratios and minima count, single times do not. Needs hyperfine; PYTHON names the interpreter, RUNS the number of runs.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python=${PYTHON:-$(command -v python3)}
python=$("$python" -c 'import sys; print(sys.executable)') # what a shim stands for
(cd "$here/../.." && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/py3run" .)
export PY3RUN_SECURITY_AUDIT_DIR=$work/audit XDG_CACHE_HOME=$work/cache
commands=("$python -I -c pass" "$work/py3run run --python $python -c pass" "$work/py3run run --python $python --method process -c pass"
  "$work/py3run run --python $python --set security.audit.enabled=false -c pass" "$work/py3run version")
names=("bare python3 -I -c pass" "py3run run" "py3run run, no namespaces" "py3run run, no audit log" "py3run version")
if command -v bwrap >/dev/null; then
  commands+=("bwrap --dev-bind / / --unshare-all --die-with-parent --proc /proc $python -I -c pass")
  names+=("bubblewrap, all namespaces")
fi
hyperfine -N --warmup 5 --runs "${RUNS:-60}" --export-json "$work/times.json" "${commands[@]}" >/dev/null 2>&1
printf '%s\n' "${names[@]}" > "$work/names"
"$python" - "$work" <<'PY'
import json, sys
work = sys.argv[1]
names = open(work + "/names").read().split("\n")
rows = json.load(open(work + "/times.json"))["results"]
bare = rows[0]
print("| command | median ms | ratio | ratio of minima | user + system ms |\n|---|---|---|---|---|")
for name, row in zip(names, rows):
    print(f"| {name} | {row['median'] * 1e3:.1f} | {row['median'] / bare['median']:.2f} | {row['min'] / bare['min']:.2f} | {(row['user'] + row['system']) * 1e3:.1f} |")
PY
echo
echo "binary: $(stat -c %s "$work/py3run") bytes, stripped"
echo '{"code": "result = 1"}' > "$work/request"
"$python" - "$work" "$python" <<'PY'
import os, resource, subprocess, sys
work, python = sys.argv[1:]
with open(work + "/request") as request:
    subprocess.run([work + "/py3run", "exec", "--audit-line", "off", "--python", python], stdin=request, stdout=subprocess.DEVNULL, check=True)
# Of the children of this process only the launcher is waited for; its own children count where they are larger, so this is an upper bound.
print(f"launcher and interpreter, largest resident set: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.1f} MB")
PY
