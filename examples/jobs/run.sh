#!/bin/sh
# A job with pandas, twice: as a script for people (run) and as a request whose answer is JSON (exec).
#
#   PY3RUN=path/to/py3run PYTHON=path/to/python3 ./run.sh
#
# PY3RUN    the launcher; default: py3run in PATH, or else ../../py3run
# PYTHON    an interpreter or virtual environment that has pandas; default: what py3run finds
#
# The exit code is 0 if all went as expected, and 77 if the interpreter has no pandas.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
py3run=${PY3RUN:-$(command -v py3run || echo "$here/../../py3run")}
command -v "$py3run" >/dev/null || { echo "no py3run: set PY3RUN, or build it: go build -o py3run ." >&2; exit 1; }

# Only for this example, so that it writes nowhere else. A real installation keeps its audit log and cache.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export PY3RUN_SECURITY_AUDIT_DIR="$tmp/audit" XDG_CACHE_HOME="$tmp/cache"

fail() { echo "run.sh: $*" >&2; exit 1; }

# find_spec searches without importing. That is quick, and a broken pandas does not look like a missing one.
code=0
"$py3run" run ${PYTHON:+--python "$PYTHON"} -c 'import importlib.util as u, sys
sys.exit(0 if u.find_spec("pandas") else 77)' || code=$?
[ "$code" -ne 77 ] || echo "run.sh: no pandas in this Python; set PYTHON to an interpreter or virtual environment that has it" >&2
[ "$code" -eq 0 ] || exit "$code"

echo "== for people: the output goes straight through, the exit code is Python's"
"$py3run" run ${PYTHON:+--python "$PYTHON"} --timeout-seconds 120 --memory-mb 512 "$here/report.py" "$here/readings.csv" |
	tee "$tmp/report"
# The exit code of the pipe is tee's, so check the output.
grep -qF '9 readings missing, 2 values unusable' "$tmp/report" || fail "not the expected summary"

echo "== for programs: one request in, one line of JSON out"
# exec runs the code in a new directory, so the path must be absolute. $here is.
"$py3run" run ${PYTHON:+--python "$PYTHON"} "$here/request.py" "$here/alarms.py" \
	readings="$here/readings.csv" tank=T-101 above_m=5 >"$tmp/request.json"

"$py3run" exec ${PYTHON:+--python "$PYTHON"} --audit-line=off <"$tmp/request.json" >"$tmp/result.json" || {
	code=$?
	cat "$tmp/result.json" >&2 # "status" and "error" say what happened
	fail "exec ended with $code"
}

"$py3run" run ${PYTHON:+--python "$PYTHON"} -c 'import json, sys
r = json.load(sys.stdin)["result"]
print(json.dumps(r, indent=2))
assert r["tank"] == "T-101" and r["count"] > 0 and len(r["readings"]) == 3, r' <"$tmp/result.json"
