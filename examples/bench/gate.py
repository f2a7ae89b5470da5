#!/usr/bin/env python3
"""Checks that the cost of a start stays within bounds. Noise alone does not exceed these bounds.

System calls and instructions are counted, which hardly depends on noise. Times are ratios to bare Python, of
runs in turns, and the best of three sittings counts. For each figure over its bound the program prints what to
do, and ends with exit code 1. It needs strace and valgrind. If one of them is not installed or does not work,
its figures are missing; with PY3RUN_TEST_REQUIRE set, that is a failure.
"""
import argparse, collections, os, re, shutil, signal, statistics, subprocess, sys

sys.dont_write_bytecode = True  # leave no files beside the sources
import bench, hook

SITTINGS = 3
Bound = collections.namedtuple("Bound", "most least why remedy")

COUNT = "see with `strace -f -c` which calls are new, before and after the change"
INSTRUCT = "see with callgrind_annotate which functions are new, before and after the change"
SWITCH = "see with `perf record -e sched:sched_switch,sched:sched_wakeup -a` which threads wake each other, before and after the change"
TIME = "repeat on a quiet machine; then `bench.py --only empty --only protections` tells which part it is"
BOUNDS = {
    # In parentheses: what was measured when the bound was set. Move a bound only together with the change that
    # needs it, never because of noise.
    "system calls of the launcher": Bound(950, 300, "waits and wake-ups of the Go runtime left out, the least of five runs (677, on a busy machine 100 more)", COUNT),
    "system calls of init and Python": Bound(850, 400, "the least of five runs (709 to 716)", COUNT),
    "context switches of py3run exec": Bound(70, 15, "voluntary ones, with those of init and Python, the least of 20 runs (46 to 55)", SWITCH),
    "instructions of py3run version": Bound(1.4e6, 1e5, "the Go runtime and the initialisation of all packages (0.92 million)", INSTRUCT),
    "instructions of py3run config show": Bound(1.6e6, 1e5, "the command tree and the configuration besides (1.08 million)", INSTRUCT),
    "instructions beside bare import json": Bound(1.2, 0.8, "runtime, hook and reply without a sandbox, as a ratio (1.02)", INSTRUCT),
    "time beside bare Python": Bound(2.2, 0.9, "the median of paired ratios, the best of three sittings (1.64 to 1.85)", TIME),
    "processor time beside bare Python": Bound(2.8, 0.9, "of the same runs (1.9 to 2.1)", TIME),
    "MB of the launcher": Bound(12, 2, "the least of three runs of a small request", "look for what is new in memory, such as a package with large tables"),
}

# Calls by which the Go runtime waits and wakes threads. Their number differs from run to run.
WAITS = {"futex", "nanosleep", "epoll_pwait", "sched_yield", "tgkill", "getpid", "rt_sigreturn", "restart_syscall", "madvise"}
# The signals of Go's preemption confuse callgrind, and some versions of valgrind do not know rdtscp.
GODEBUG = "asyncpreemptoff=1,cpu.rdtscp=off"


class Absent(Exception):
    pass


def calls(command, trace):
    """Counts system calls: [those of the launcher's threads, those of all other processes]."""
    strace = shutil.which("strace")
    if not strace:
        raise Absent("strace is not installed")
    done = subprocess.run([strace, "-f", "-qq", "-e", "raw=all", "-e", "signal=none", "-o", trace, *command.argv], env=command.env,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode:
        raise Absent("strace: " + done.stderr.decode(errors="replace").strip())
    threads, flags, count = set(), {}, [0, 0]
    with open(trace) as f:
        for line in f:
            pid, rest = line.split(None, 1)
            if not threads:
                threads.add(pid)
            begun = re.match(r"(\w+)\(", rest)
            if begun:
                count[pid not in threads] += begun[1] not in WAITS
            clone = re.match(r"clone\((0x[0-9a-f]+)", rest)
            if clone:
                flags[pid] = int(clone[1], 16)
            made = re.match(r"(?:clone\(|<\.\.\. clone resumed).* = (0x[0-9a-f]+)$", rest)
            if made and pid in threads and flags[pid] & 0x10000:  # CLONE_THREAD
                threads.add(str(int(made[1], 16)))
    return count


def switches(command, errors):
    """Counts how often a thread of the command, or of what it has waited for, went to sleep."""
    _, status, usage = os.wait4(bench.spawn(command, errors), 0)
    if status:
        raise bench.Failed(f"{command.name}: wait status {status}")
    return usage.ru_nvcsw


def instructions(argv, *side):
    if not shutil.which("valgrind"):
        raise Absent("valgrind is not installed")
    try:
        return hook.instructions(argv, *side)
    except (SystemExit, OSError, TypeError) as e:
        raise Absent(f"valgrind does not run {os.path.basename(argv[0])} here: {e}")


def measures(s):
    """Returns pairs: names of BOUNDS, and a function that measures these once."""
    empty = s.run("pass")
    hooked = hook.blob(s.python)

    def system_calls():
        runs = [calls(empty, s.path("trace")) for _ in range(5)]
        return [min(r[0] for r in runs), min(r[1] for r in runs)]

    def cold_exec():
        request = s.exec(s.request("empty", code="pass"))
        return [min(switches(request, s.errors) for _ in range(20))]

    def launcher():
        os.environ.update(s.env, GODEBUG=GODEBUG)
        return [instructions([s.py3run, "version"]), instructions([s.py3run, "config", "show"])]

    def python():
        code = "import json"
        bare = lambda code: [s.python, "-I", "-X", "utf8", "-c", code]
        return [instructions(bare(hook.stub()), code, hooked) / instructions(bare(code))]

    def times(pairs=20):
        bare, kept = s.bare("pass"), s.path("audit", "audit.jsonl")
        turns = [(bench.measure(bare, s.errors), bench.measure(empty, s.errors)) for _ in range(pairs)]
        with open(kept) as f:
            records = sum(1 for _ in f)
        if records - times.records < 2 * pairs:
            raise bench.Failed(f"{pairs} runs left {records - times.records} records: something else was measured")
        times.records = records
        return [statistics.median(b.wall / a.wall for a, b in turns), statistics.median(b.cpu / a.cpu for a, b in turns)]
    times.records = 0

    def memory():
        request = s.exec(s.request("small", code="result = 1"))
        return [min(bench.own(request, s.errors) for _ in range(3))]

    names = list(BOUNDS)
    return [(names[0:2], system_calls), (names[2:3], cold_exec), (names[3:5], launcher), (names[5:6], python), (names[6:8], times), (names[8:], memory)]


def judge(names, measure):
    """Returns the best figures of up to three sittings. It stops as soon as all are within their bounds."""
    best = None
    for _ in range(SITTINGS):
        found = measure()
        best = [min(pair) for pair in zip(best, found)] if best else found
        if all(v <= BOUNDS[n].most for n, v in zip(names, best)):
            break
    return best


def shown(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--python", default=os.environ.get("PYTHON") or sys.executable, help="the interpreter; a shim is followed")
    p.add_argument("--py3run", default=os.environ.get("PY3RUN"), help="this one instead of one built here")
    o = p.parse_args()
    for n in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(n, lambda n, _: sys.exit(128 + n))
    bench.adopt()
    if os.geteuid() == 0:
        os.nice(-10)  # the launcher polls a run ten times a second, so a run that takes longer makes more calls
    s, failures = bench.Sitting(o), []
    try:
        bench.measure(s.run("pass"), s.errors)  # so that the facts about the interpreter are in the cache
        print(f"{'':<46}{'measured':>12}{'bound':>12}")
        for names, measure in measures(s):
            try:
                found = judge(names, measure)
            except Absent as e:
                print(f"{names[0]}, and the like: not measured: {e}")
                failures += [f"{names[0]}: not measured: {e}"] * bool(os.environ.get("PY3RUN_TEST_REQUIRE"))
                continue
            for name, value in zip(names, found):
                b = BOUNDS[name]
                wrong = value > b.most or value < b.least
                print(f"{name:<46}{shown(value):>12}{shown(b.most):>12}{'  FAILED' * wrong}")
                if value > b.most:
                    failures.append(f"{name}: {shown(value)}, more than {shown(b.most)} ({b.why}): {b.remedy}")
                elif wrong:
                    failures.append(f"{name}: {shown(value)}, less than {shown(b.least)}: a run was not what was measured, or the bounds have to follow")
    finally:
        s.end()
    for failure in failures:
        print(f"gate.py: {failure}", file=sys.stderr)
    return int(bool(failures))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (bench.Failed, OSError, subprocess.SubprocessError) as e:
        sys.exit(f"gate.py: {e}")
