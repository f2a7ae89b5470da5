#!/bin/sh
# py3run in a pipe: check a script, filter a log with it, read the exit codes, and send a JSON request.
#
#   PY3RUN=path/to/py3run PYTHON=path/to/python3 ./pipeline.sh
#
# PY3RUN    the launcher; default: py3run in PATH, or else ../../py3run
# PYTHON    the interpreter; default: what py3run finds
#
# The exit code is 0 if all went as expected.
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
[ -z "${PYTHON:-}" ] || export PY3RUN_PYTHON_INTERPRETER="$PYTHON" # the same as --python in each call below

fail() { echo "pipeline.sh: $*" >&2; exit 1; }

# Codes up to 120 come from the script; 1 means a traceback. From 121 on they come from py3run, unless the
# script itself returns such a number.
meaning() {
	case $1 in
	0) echo "finished" ;;
	121) echo "denied; do not try again" ;;
	122) echo "too many runs; try later" ;;
	123) echo "memory, process, disk or output limit" ;;
	124) echo "time limit" ;;
	125) echo "py3run itself could not run it; nothing ran" ;;
	126 | 127) echo "no usable Python" ;;
	130 | 143) echo "cancelled" ;;
	*) echo "the script's own code" ;;
	esac
}

# expect CODE COMMAND... runs a command and checks its exit code. Without it, set -e would end this script
# at the first code that is not 0.
expect() {
	want=$1
	shift
	code=0
	"$@" || code=$?
	[ "$code" -eq "$want" ] || fail "exit code $code ($(meaning "$code")), want $want: $*"
}

echo "== check the syntax before anything is scheduled; nothing runs"
expect 0 "$py3run" check "$here/levels.py"
echo 'if True print("oops")' >"$tmp/broken.py"
expect 1 "$py3run" check "$tmp/broken.py" >"$tmp/findings"
sed "s|^$tmp/||" "$tmp/findings" # FILE:LINE:COLUMN: error: ..., as compilers write it

echo "== in a pipe: the log on standard input, lines on standard output"
# The exit code of a pipe is that of its last command, so py3run comes last. "py3run ... | sort" would hide
# its exit code.
grep -v ' DEBUG ' "$here/tanks.log" |
	expect 0 "$py3run" run --timeout-seconds 60 --memory-mb 256 "$here/levels.py" >"$tmp/levels"
sort -rn "$tmp/levels"
[ "$(wc -l <"$tmp/levels")" -eq 3 ] || fail "want a line for each of three tanks"

echo "== exit codes"
expect 3 "$py3run" run "$here/levels.py" </dev/null
echo "3: $(meaning 3) (no tank in the input)"
echo "not a log line" | expect 1 "$py3run" run "$here/levels.py" 2>"$tmp/err"
echo "1: $(cat "$tmp/err")"
expect 124 "$py3run" run --timeout-seconds 1 -c 'while True: pass' 2>"$tmp/err"
echo "124: $(meaning 124): $(sed -n '1s/^py3run: error: //p' "$tmp/err")"
expect 127 "$py3run" run --python "$tmp/no-such-python" -c 'pass' 2>"$tmp/err"
echo "127: $(meaning 127)"

echo "== a JSON request: data travels as variables, never pasted into code"
# Never build JSON with echo or printf: a quote or a backslash in the log would change the request. Use jq:
#   jq -Rs '{variables: {lines: .}, code: "result = ..."}' tanks.log
# Without jq, Python can quote the text. The request goes through a file, not a pipe: exec waits for the
# first byte for only 10 s (input.timeout-seconds), and a pipe would hide the first program's exit code.
expect 0 "$py3run" run -c '
import json, sys
code = """
acks = [line.partition(" ack=")[2] for line in log.splitlines() if " ack=" in line]
result = {"lines": len(log.splitlines()), "acks": acks}
"""
json.dump({"code": code, "variables": {"log": sys.stdin.read()}, "limits": {"timeout_seconds": 60}}, sys.stdout)
' <"$here/tanks.log" >"$tmp/request.json"

expect 0 "$py3run" exec --audit-line=off <"$tmp/request.json" >"$tmp/result.json"

# exec always prints one line of JSON, and "status" says what happened. The exit code 0 above means "ok".
"$py3run" run -c 'import json, sys
r = json.load(sys.stdin)
print(r["status"], r["result"]["lines"], *r["result"]["acks"])' <"$tmp/result.json" >"$tmp/answer"
cat "$tmp/answer"
# shellcheck disable=SC2016 # these characters are in the log, and must come back unchanged
grep -qF 'ok 68 "it'\''s known; $(date) is not run, nor is `this`"' "$tmp/answer" || fail "the text of the log was changed"
