#!/bin/sh
# Compiles the Java client, runs the example, and runs the client's tests where JUnit 5 and Gson are.
#
#   PY3RUN=path/to/py3run PYTHON=path/to/python3 JAVA_HOME=path/to/jdk ./run.sh
#
# PY3RUN       the launcher; default: py3run in PATH, or else ../../py3run
# PY3RUNCTL    the operators' command, for the tests of the web service; default: py3runctl beside py3run
# PYTHON       the interpreter; default: what py3run finds
# JAVA_HOME    a JDK from version 17 on; default: the javac in PATH
# JARS         the directory of junit-platform-console-standalone.jar and gson.jar; default: where Debian's packages
#              junit5 and libgoogle-gson-java put them
#
# Without these two files the tests are skipped, which is an error if PY3RUN_TEST_REQUIRE names junit. Arguments go
# to JUnit's console launcher: ./run.sh --select-class ExecTest
#
# The exit code is 0 if all went as expected.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
PY3RUN=${PY3RUN:-$(command -v py3run || echo "$here/../../py3run")}
PY3RUN=$(command -v "$PY3RUN") || { echo "no py3run: set PY3RUN, or build it: go build -o py3run ." >&2; exit 1; }
bin=${JAVA_HOME:+$JAVA_HOME/bin/}
command -v "${bin}javac" >/dev/null || { echo "no javac: set JAVA_HOME, or install a JDK from 17 on" >&2; exit 1; }

# Only for this example, so that it writes nowhere else. A real installation keeps its audit log and cache.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export PY3RUN PY3RUN_SECURITY_AUDIT_DIR="$tmp/audit" XDG_CACHE_HOME="$tmp/cache" XDG_STATE_HOME="$tmp/state"

compile() { # the sources are UTF-8, whatever the locale says
	"${bin}javac" -J-XX:-UsePerfData --release 17 -encoding UTF-8 -Xlint:all -Werror -d "$tmp/classes" "$@"
}

# The JVM runs in the background, because a shell runs no trap while it waits for a foreground command. So
# the trap below can send a signal on to the JVM.
run() {
	"${bin}java" -Djava.io.tmpdir="$tmp" -XX:-UsePerfData "$@" &
	java=$!
	trap 'kill -TERM "$java" 2>/dev/null || :' INT TERM
	code=0
	wait "$java" || code=$?
	while kill -0 "$java" 2>/dev/null; do # a signal ended the wait; the JVM is still stopping its runs
		wait "$java" || code=$?
	done
	[ "$code" = 0 ] || exit "$code"
}

compile "$here"/py3run/*.java "$here"/web/*.java "$here"/*.java
run -cp "$tmp/classes" Example

jars=${JARS:-/usr/share/java}
junit=$jars/junit-platform-console-standalone.jar gson=$jars/gson.jar
if [ ! -e "$junit" ] || [ ! -e "$gson" ]; then
	case ",${PY3RUN_TEST_REQUIRE:-}," in
	*,junit,*) echo "no JUnit 5 or no Gson in $jars, and PY3RUN_TEST_REQUIRE names junit" >&2; exit 1 ;;
	esac
	echo "skipped the tests: no JUnit 5 or no Gson in $jars (Debian: junit5, libgoogle-gson-java)"
	exit 0
fi
compile -cp "$tmp/classes:$junit:$gson" "$here"/test/*.java
parallel=junit.jupiter.execution.parallel
[ $# -gt 0 ] || set -- --scan-classpath "$tmp/classes"
run -Xmx1g -Dpy3run.test.files="$here/test" -cp "$tmp/classes:$junit:$gson" org.junit.platform.console.ConsoleLauncher \
	--disable-banner --disable-ansi-colors --config $parallel.enabled=true --config $parallel.mode.default=concurrent \
	--config $parallel.config.strategy=fixed --config $parallel.config.fixed.parallelism=4 "$@"
