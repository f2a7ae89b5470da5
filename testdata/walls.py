#!/usr/bin/env python3
"""Attacks on the launcher's memory and time that are too large for the tests. Prints a line of figures for each.

    walls.py --py3run ./py3run --python /usr/bin/python3 [-k WORD] [--scale F]

The directories of all runs lie below --dir. The default is /dev/shm if there is enough memory, because large
trees are made quickly there. "after" is the time from the end of the code to the result line, "exit" the time
from the result line to the end of the launcher, "memory" the launcher's largest resident set.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time



def roomy():
    """Reports whether a million directories fit into memory: each takes more than a kilobyte."""
    with open("/proc/meminfo") as f:
        return os.access("/dev/shm", os.W_OK) and any(line.startswith("MemAvailable:") and int(line.split()[1]) > 6 << 20 for line in f)


arguments = argparse.ArgumentParser()
arguments.add_argument("--py3run", required=True)
arguments.add_argument("--python", required=True)
arguments.add_argument("--dir", default="/dev/shm" if roomy() else None)
arguments.add_argument("--scale", type=float, default=1, help="of the numbers of directories and bytes")
arguments.add_argument("-k", default="")
options = arguments.parse_args()
work = tempfile.mkdtemp(prefix="py3run-walls-", dir=options.dir)
failed = []

CHAIN = """
import os, time
d = os.open(".", os.O_RDONLY)
for i in range(%d):
    os.mkdir("d", dir_fd=d)
    e = os.open("d", os.O_RDONLY, dir_fd=d)
    os.close(d)
    d = e
result = time.time()
"""
WIDE = """
import os, time
name = "n" * 200
for i in range(%d):
    os.mkdir(name + str(i))
result = time.time()
"""
BROOM = """
import os, time
d = os.open(".", os.O_RDONLY)
for i in range(%d):
    for name in "abcd":
        os.mkdir(name, dir_fd=d)
    e = os.open("a", os.O_RDONLY, dir_fd=d)
    os.close(d)
    d = e
result = time.time()
"""
PRINT = """
import os, time
for f in 1, 2:
    for i in range(%d):
        os.write(f, %s * 32768)
result = time.time()
"""
FULL = """
import os
for i in range(60000):
    os.mkdir("d%%d" %% i)
with open("big", "wb") as f:
    for i in range(%d):
        f.write(bytes(1 << 20))
        f.flush()
result = "all was written"
"""
DRIP = """
import os, signal, stat, time
pipes = [int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) > 2 and os.path.exists("/proc/self/fd/" + fd) and stat.S_ISFIFO(os.stat("/proc/self/fd/" + fd).st_mode)]
for i in range(8):
    if os.fork() == 0:
        for s in signal.SIGTERM, 63: signal.signal(s, signal.SIG_IGN)
        while True:
            for fd in pipes:
                try: os.write(fd, b"x")
                except OSError: pass
            time.sleep(0.005)
while True: time.sleep(1)
"""


def launch(name, code, limits, want, most_after=10.0, most_exit=10.0, most_memory=128, **settings):
    """Runs code and prints the figures; want(result) reports whether the result is as expected."""
    if options.k not in name:
        return
    env = {"PATH": "/usr/bin:/bin", "HOME": work, "PY3RUN_PYTHON_INTERPRETER": options.python, "PY3RUN_CONFIG": "", "XDG_CONFIG_HOME": work, "XDG_CACHE_HOME": work,
           "PY3RUN_SECURITY_AUDIT_DIR": work + "/audit", "PY3RUN_SECURITY_ISOLATION_WORKING_DIR": work + "/work/${executionId}", "PY3RUN_SECURITY_MAX_DISK_MB": "0",
           "PY3RUN_SECURITY_EXECUTION_TIMEOUT_SECONDS": "1800", "PY3RUN_SECURITY_MAX_CPU_SECONDS": "1800", "PY3RUN_SECURITY_MAX_MEMORY_MB": "4096"}
    env.update(settings)
    p = subprocess.Popen([options.py3run, "exec", "--audit-line=off"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    memory = [0]

    def look():
        while p.returncode is None:
            try:
                with open("/proc/%d/status" % p.pid) as f:
                    for line in f:
                        if line.startswith("VmHWM:"):
                            memory[0] = max(memory[0], int(line.split()[1]) >> 10)
            except OSError:
                return
            time.sleep(0.05)

    watcher = threading.Thread(target=look)
    watcher.start()
    began = time.time()
    p.stdin.write(json.dumps({"code": code, "limits": limits}).encode())
    p.stdin.close()
    line = p.stdout.readline()
    told = time.time()
    p.wait()
    ended = time.time()
    watcher.join()
    r = json.loads(line)
    if "usage" not in r:
        sys.exit("error: %s: %s" % (name, r))
    code_end = r["result"] if type(r.get("result")) is float else began + (r["usage"]["wall_ms"] + r["usage"]["setup_ms"]) / 1e3
    after, leaving = told - code_end, ended - told
    verdict = []
    if not want(r):
        verdict.append("unexpected: %.300s" % {k: r.get(k) for k in ("status", "error", "failure")})
    for what, figure, most in ("after", after, most_after), ("exit", leaving, most_exit), ("memory", memory[0], most_memory):
        if figure > most:
            verdict.append("%s above %g" % (what, most))
    print("%-44s %-12s ran %6.1f s  after %5.2f s  exit %5.2f s  memory %4d MB  line %5.1f MB  %s" % (
        name, r["status"], r["usage"]["wall_ms"] / 1e3, after, leaving, memory[0], len(line) / 2**20, "; ".join(verdict)), flush=True)
    failed.extend(verdict)


def ok(r):
    return r["status"] == "ok"


def scaled(n):
    return int(n * options.scale)


try:
    for n in 250000, 700000, 1000000:
        launch("a chain of %d directories" % scaled(n), CHAIN % scaled(n), {}, ok)
    launch("1000000 directories beside each other", WIDE % scaled(1000000), {}, ok)
    launch("a chain of 200000, each with three beside it", BROOM % scaled(200000), {}, ok)
    for unit in r'b"\x01"', r'b"\xff"', r'b"\n"', r'b"\""':
        launch("10 MB of %s on both streams" % unit, PRINT % (320, unit), {}, ok)
    launch("60000 directories, then 904 MB under 254", FULL % 904, {"disk_mb": 254}, lambda r: r["status"] == "disk_limit" and r["failure"]["limit"]["used"] < 600)
    for method in "namespace", "process":
        launch("bytes drip into every pipe, " + method, DRIP, {"timeout_seconds": 1, "processes": 32}, lambda r: r["status"] == "timeout" and r["usage"]["wall_ms"] < 4000,
               PY3RUN_SECURITY_ISOLATION_METHOD=method)
    # Later runs must remove what is left of all these.
    left, runs = 1, 0
    place = work + "/work/.py3run-%d" % os.geteuid()
    while left and runs < 200:
        launch("a run after them", "import time; result = time.time()", {}, ok, most_after=5) if runs == 0 else subprocess.run(
            [options.py3run, "exec", "--audit-line=off"], input=b'{"code": ""}', stdout=subprocess.DEVNULL, env={
                "PATH": "/usr/bin:/bin", "PY3RUN_PYTHON_INTERPRETER": options.python, "PY3RUN_CONFIG": "", "XDG_CONFIG_HOME": work, "XDG_CACHE_HOME": work,
                "PY3RUN_SECURITY_AUDIT_DIR": work + "/audit", "PY3RUN_SECURITY_ISOLATION_WORKING_DIR": work + "/work/${executionId}"})
        runs += 1
        left = len(os.listdir(place)) if os.path.isdir(place) else 0
    print("%d runs later %d entries are left" % (runs, left))
    if left:
        failed.append("left")
finally:
    subprocess.run(["rm", "-rf", work])
sys.exit(bool(failed))
