#!/bin/sh
# Compiles the Java example and runs it.
#
#   PY3RUN=path/to/py3run PYTHON=path/to/python3 JAVA_HOME=path/to/jdk ./run.sh
#
# PY3RUN       the launcher; default: py3run in PATH, or else ../../py3run
# PYTHON       the interpreter; default: what py3run finds
# JAVA_HOME    a JDK from version 17 on; default: the javac in PATH
#
# The exit code is 0 if all went as expected.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
PY3RUN=${PY3RUN:-$(command -v py3run || echo "$here/../../py3run")}
command -v "$PY3RUN" >/dev/null || { echo "no py3run: set PY3RUN, or build it: go build -o py3run ." >&2; exit 1; }
bin=${JAVA_HOME:+$JAVA_HOME/bin/}
command -v "${bin}javac" >/dev/null || { echo "no javac: set JAVA_HOME, or install a JDK from 17 on" >&2; exit 1; }

# Only for this example, so that it writes nowhere else. A real installation keeps its audit log and cache.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export PY3RUN PY3RUN_SECURITY_AUDIT_DIR="$tmp/audit" XDG_CACHE_HOME="$tmp/cache"

# The sources are UTF-8, whatever the locale says.
"${bin}javac" -J-XX:-UsePerfData --release 17 -encoding UTF-8 -Xlint:all -Werror -d "$tmp/classes" "$here"/*.java

# The JVM runs in the background, because a shell runs no trap while it waits for a foreground command. So
# the trap below can send a signal on to the JVM.
"${bin}java" -Djava.io.tmpdir="$tmp" -XX:-UsePerfData -cp "$tmp/classes" Example &
java=$!
trap 'kill -TERM "$java" 2>/dev/null || :' INT TERM
code=0
wait "$java" || code=$?
while kill -0 "$java" 2>/dev/null; do # a signal ended the wait; the JVM is still stopping its runs
	wait "$java" || code=$?
done
exit "$code"
