#!/usr/bin/env python3
"""What a run costs, compared with bare Python and with other launchers that are installed here.

It builds py3run, finds the other launchers, and runs all of them in turns, so that noise affects each
alike. Only ratios to bare Python in the same sitting are meaningful; single times are not. Wall-clock time
is measured around posix_spawn and wait4. Processor time is that of all processes of a command, including
those that outlive it. Peak memory is that of the largest process. Needs Linux, Go (or --py3run) and Python
3.8. Runs as root or as an ordinary user, and leaves nothing behind.

groups: empty, json, pandas, data (8 MB of variables in, 8 MB of result out), output (10 MB printed), parallel, bridge
(requests to a bridge whose template is ready), keep (requests to a bridge that keeps its interpreter),
floor (what such a request cannot do without, step by step), drop-in (a start, and a session of 20,000 calls by lines), protections
"""
import argparse, collections, ctypes, datetime, glob, html, json, math, os, platform, select, shutil, signal, statistics, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
DATA_MB, OUTPUT_MB, ABREAST, KEPT, CALLS = 8, 10, 8, 20, 20000
# Seconds for a template to fork its next worker, so that this does not disturb the next command. The template's
# processor time still counts.
REST = 0.2

# call does the work of a command that starts no process: it gets count and abreast.
Command = collections.namedtuple("Command", "name argv env stdin warm every call", defaults=(None, os.devnull, False, 1, None))
Job = collections.namedtuple("Job", "group name commands rounds count abreast least", defaults=(1, 1, 0))
Sample = collections.namedtuple("Sample", "wall cpu out")
Row = collections.namedtuple("Row", "name runs median medians paired minima cpu peak own difference")

PROTECTIONS = [  # name, and the key that changes it
    ("without control group", "security.isolation.cgroup-parent=none"),
    ("without memory limit", "security.max-memory-mb=0"),
    ("without process limit", "security.max-processes=0"),
    ("without processor time limit", "security.max-cpu-seconds=0"),
    ("without disk limit", "security.max-disk-mb=0"),
    ("without namespaces", "security.isolation.method=process"),
    ("without system call list", "security.isolation.seccomp=off"),
    ("without native trail", "security.audit.native=off"),
    ("without its files", "security.audit.files=off"),
    ("without audit log", "security.audit.enabled=false"),
    ("with CPU quota", "security.max-cpus=8"),
    ("with byte rates", "security.max-read-mb-per-second=100000"),
    ("with write-dirs", 'security.isolation.write-dirs=["/srv"]'),
    ("with read-dirs", 'security.isolation.read-dirs=["/srv"]'),
    ("with network none", "security.isolation.network=none"),
    ("with minimal /dev", "security.isolation.dev=minimal"),
    ("with no-new-privileges", "security.isolation.no-new-privileges=true"),
]


# A program that answers lines, and one that calls it. The start is part of a session, so that has many calls.
BRIDGE = """
import json, sys
print(json.dumps({"status": "ready"}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    try:
        reply = {"success": True, "result": eval(request["expression"])}
    except Exception as e:
        reply = {"success": False, "error": str(e)}
    print(json.dumps(reply), flush=True)
"""
SESSION = """
import json, subprocess, sys
p = subprocess.Popen([sys.argv[1], "-u", sys.argv[2]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
assert json.loads(p.stdout.readline())["status"] == "ready"
for i in range(%d):
    p.stdin.write(json.dumps({"command": "evaluate", "expression": "1 + %%d" %% i}).encode() + b"\\n")
    p.stdin.flush()
    assert json.loads(p.stdout.readline())["result"] == i + 1
p.stdin.close()
sys.exit(p.wait())
"""


class Failed(Exception):
    pass


# Processes. This process is the subreaper of everything that its children leave behind. So the inner process
# of bubblewrap and the monitor of podman count for the command that started them, and an interrupted sitting
# can end them.

LASTING = set()  # children that live on between runs: warm templates


def adopt():
    if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0):  # PR_SET_CHILD_SUBREAPER
        raise OSError(ctypes.get_errno(), "prctl")


def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as f:
        return set(map(int, f.read().split()))


def spawn(command, errors, out=None):
    files = [(os.POSIX_SPAWN_OPEN, 0, command.stdin, os.O_RDONLY, 0),
             (os.POSIX_SPAWN_DUP2, out, 1) if out is not None else (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
             (os.POSIX_SPAWN_OPEN, 2, errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)]
    return os.posix_spawn(command.argv[0], command.argv, command.env, file_actions=files)


def measure(command, errors, count=1, abreast=1, read=False):
    """Runs the command count times and measures until all have ended. With read it also returns the output of a single run."""
    cpu, out, running, left, failed = 0.0, b"", set(), count, None
    begin = time.perf_counter()
    if command.call:
        command.call(count, abreast)
        return Sample(time.perf_counter() - begin, 0.0, b"")
    if read:
        source, sink = os.pipe2(os.O_CLOEXEC)
        running.add(spawn(command, errors, sink))
        os.close(sink)
        left, parts = 0, []
        while parts[-1:] != [b""]:
            parts.append(os.read(source, 1 << 20))
        os.close(source)
        out = b"".join(parts)
    while running or left:
        while left and len(running) < abreast:
            running.add(spawn(command, errors))
            left -= 1
        pid, status, usage = os.wait4(-1, 0)
        if pid in LASTING:
            LASTING.discard(pid)
            continue
        cpu += usage.ru_utime + usage.ru_stime
        if pid in running and status:
            failed = status
        running.discard(pid)
    wall = time.perf_counter() - begin
    patience = time.monotonic() + 5
    while children() - LASTING:
        pid, _, usage = os.wait4(-1, os.WNOHANG)
        if pid and pid not in LASTING:
            cpu += usage.ru_utime + usage.ru_stime
        elif time.monotonic() > patience:
            LASTING.update(children())
        else:
            time.sleep(0.0005)
    if failed is not None:
        with open(errors, errors="replace") as f:
            said = [line for line in f.read().split("\n") if line] or [f"wait status {failed}"]
        raise Failed(next((line for line in said if "error" in line), said[0]))
    return Sample(wall, cpu, out)


def lasting_cpu():
    """Seconds of processor time of each process in LASTING, with its descendants, dead ones included."""
    parents, spent = {}, {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            with open(path) as f:
                pid, rest = f.read().split(" (", 1)
        except OSError:
            continue
        fields = rest.rpartition(") ")[2].split()
        parents[int(pid)], spent[int(pid)] = int(fields[1]), sum(map(int, fields[11:15]))
    seconds = {}
    for root in LASTING & set(spent):
        family, size = {root}, 0
        while len(family) != size:
            size = len(family)
            family.update(pid for pid, parent in parents.items() if parent in family)
        seconds[root] = sum(spent.get(pid, 0) for pid in family) / os.sysconf("SC_CLK_TCK")
    return seconds


# A process inherits the memory peak of the process that forked it. So this small program starts the command: it
# forks, and does not share memory with its child.
PEAK = """
import sys, posix, ctypes
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
first = posix.fork()
if not first:
    try: posix.execv(sys.argv[2], sys.argv[2:])
    finally: posix._exit(127)
most = pid = 0
while pid != first:
    pid, _, usage = posix.wait4(-1, 0)
    most = max(most, usage.ru_maxrss)
try:
    while True: most = max(most, posix.wait4(-1, 0)[2].ru_maxrss)
except OSError: posix.write(int(sys.argv[1]), b"%d" % most)
"""


def largest(command, python):
    """MB of the largest process of a run."""
    with tempfile.TemporaryFile() as report, open(command.stdin) as stdin:
        subprocess.run([python, "-I", "-S", "-c", PEAK, str(report.fileno()), *command.argv], env=command.env, stdin=stdin, pass_fds=[report.fileno()],
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        report.seek(0)
        return int(report.read()) / 1024


def own(command, errors):
    """Peak memory, in MB, of the started process alone: of a launcher without its children. Polled until its end."""
    pid, most = spawn(command, errors), 0
    while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        with open(f"/proc/{pid}/status") as f:
            most = max([most] + [int(line.split()[1]) for line in f if line.startswith("VmHWM:")])
    os.waitpid(pid, 0)
    return most / 1024


# Requests to bridges: one process each, which answers lines.

class Bridge:
    REQUEST = b'{"code": "pass"}\n'

    def __init__(self, sitting, *options):
        self.start(sitting, [sitting.py3run, "bridge", "--python", sitting.python, *options])

    def start(self, sitting, argv):
        self.process = subprocess.Popen(argv, env=sitting.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        LASTING.add(self.process.pid)
        self.input, self.output, self.reply = self.process.stdin.fileno(), self.process.stdout.fileno(), b""
        self.read()
        self.answers = 0

    def ask(self):
        os.write(self.input, self.REQUEST)

    def read(self):
        """Reads what is there, and tells whether a reply is whole."""
        self.reply += os.read(self.output, 1 << 16)
        if not self.reply.endswith(b"\n"):
            if not self.reply:
                raise Failed("the bridge has ended")
            return False
        if b'"success":false' in self.reply:
            raise Failed(self.reply.decode())
        self.reply = b""
        return True

    def call(self, count, abreast):
        for _ in range(count):
            self.ask()
            while not self.read():
                pass

    def end(self):
        self.process.stdin.close()
        LASTING.discard(self.process.pid)
        self.process.wait()


class Script(Bridge):
    """The same without isolation and records: an interpreter with a script that answers lines."""

    SCRIPT = '''import io, json, sys, traceback
from contextlib import redirect_stdout
print('{"status": "ready"}', flush=True)
names = {}
for line in sys.stdin:
    request, out = json.loads(line), io.StringIO()
    try:
        names.pop("result", None)
        with redirect_stdout(out):
            exec(compile(request["code"], "<script>", "exec"), names)
        reply = {"success": True, "result": names.get("result"), "output": out.getvalue()}
    except Exception as e:
        reply = {"success": False, "error": str(e), "traceback": traceback.format_exc()}
    print(json.dumps(reply), flush=True)
'''

    def __init__(self, sitting):
        path = sitting.path("bridge_script.py")
        with open(path, "w") as f:
            f.write(self.SCRIPT)
        self.start(sitting, [sitting.python, "-u", path])


class Floor(Bridge):
    """What a request to a kept interpreter cannot do without, by hand: see floor/main.go."""

    STEPS = {"interpreter": "and an interpreter executes the code", "pipes": "and new pipes for what it prints", "usage": "and what its control group has used",
             "records": "and two records, chained, under a lock", "sync": "and these are durable: the floor"}
    USAGE = "cpu.stat", "cpuacct.usage", "pids.current", "pids.events", "memory.stat", "memory.oom_control", "memory.events"

    def __init__(self, sitting, program, steps, like):
        self.start(sitting, [program, ",".join(steps), sitting.path(), sitting.python, *self.usage(like)])

    def usage(self, bridge):
        """The files of the control group of a bridge's interpreter, which is the first process with a group that it has started."""
        found, pids = {}, [bridge.process.pid]
        for pid in pids:
            for path in glob.glob(f"/proc/{pid}/task/*/children"):
                with open(path) as f:
                    pids += map(int, f.read().split())
            with open(f"/proc/{pid}/cgroup") as f:
                groups = [line.rstrip("\n").split(":", 2) for line in f]
            for _, controllers, path in groups:
                for top in [f"/sys/fs/cgroup/{c}" for c in controllers.split(",") if c] or ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]:
                    found.update({name: f"{top}{path}/{name}" for name in self.USAGE if name not in found and "py3run" in path and os.path.exists(f"{top}{path}/{name}")})
        return list(found.values())[:5]


def ask_all(bridges, count):
    """Has bridges answer count requests, each the next one when it has answered."""
    poll, of, left, busy = select.poll(), {b.output: b for b in bridges}, count, 0
    for b in bridges:
        poll.register(b.output, select.POLLIN)
        b.ask()
        left, busy = left - 1, busy + 1
    while busy:
        for fd, _ in poll.poll():
            if of[fd].read():
                busy -= 1
                if left:
                    of[fd].ask()
                    left, busy = left - 1, busy + 1


# The sitting: its directories, and what it compares.

class Sitting:
    def __init__(self, o):
        self.o, self.notes, self.ending, self.broken = o, [], [], False
        self.work = tempfile.mkdtemp(prefix="py3run-bench-")
        self.errors = self.path("errors")
        self.parents = set(glob.glob("/sys/fs/cgroup/**/libpod_parent", recursive=True))
        self.python = subprocess.run([o.python, "-c", "import sys; print(sys.executable)"], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
        self.py3run = os.path.abspath(o.py3run) if o.py3run else self.build(".", "py3run")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PY3RUN_", "PYTHON"))}
        open(self.path("config.toml"), "w").close()
        self.bare_env = clean
        self.env = dict(clean, PY3RUN_CONFIG=self.path("config.toml"), PY3RUN_SECURITY_AUDIT_DIR=self.path("audit"), XDG_CACHE_HOME=self.path("cache"), XDG_STATE_HOME=self.path("state"),
                        PY3RUN_SECURITY_ISOLATION_WORKING_DIR=self.path("${executionId}"))

    def path(self, *names):
        return os.path.join(self.work, *names)

    def build(self, package, name):
        subprocess.run(["go", "build", "-buildvcs=false", "-trimpath", "-ldflags", "-s -w", "-o", self.path(name), package], cwd=TOP,
                       env=dict(os.environ, CGO_ENABLED="0"), check=True)
        return self.path(name)

    def tell(self, text=""):
        if sys.stderr.isatty():
            print("\r\x1b[K" + text, end="", file=sys.stderr, flush=True)

    def note(self, text):
        self.notes.append(text)
        self.tell()
        print(text, file=sys.stderr)

    def ask(self, request, env, *options):
        """Returns the result of one request."""
        out = subprocess.run([self.py3run, "exec", "--audit-line", "off", "--python", self.python, *options], input=json.dumps(request).encode(),
                             env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60).stdout
        return json.loads(out)

    def request(self, name, **fields):
        with open(self.path(name), "w") as f:
            json.dump(fields, f)
        return self.path(name)

    def bare(self, code, stdin=os.devnull):
        return Command("bare Python", [self.python, "-I", "-c", code], self.bare_env, stdin)

    def run(self, code, name="py3run run", options=()):
        return Command(name, [self.py3run, "run", "--python", self.python, *options, "-c", code], self.env)

    def exec(self, request, name="py3run exec", env=None):
        return Command(name, [self.py3run, "exec", "--audit-line", "off", "--python", self.python], env or self.env, request, bool(env))

    def peers(self):
        """Yields each launcher that works here: its name, its command line up to the interpreter, and n if it runs in every n-th round."""
        root = os.geteuid() == 0
        quoted = lambda option, *values: [word for value in values for word in (option, value)]
        rootfs = self.path("rootfs")
        podman = ["podman", "--root", self.path("storage"), "--runroot", self.path("runroot"), "--tmpdir", self.path("podman")]
        mounts = {"/usr", *(p for p in (self.prefix(),) if not p.startswith("/usr/"))}
        for name, argv, every in [
            ("bubblewrap", ["bwrap", "--dev-bind", "/", "/", "--unshare-all", "--die-with-parent", "--proc", "/proc"], 1),
            ("unshare", ["unshare", *([] if root else ["--map-root-user"]), "-pfmniu", "--mount-proc"], 1),
            ("nsjail", ["nsjail", "-Q", "-Mo", "--chroot", "/", *(["--disable_clone_newuser"] if root else []), "--rlimit_as", "inf",
                        "--rlimit_nofile", "256", "--rlimit_fsize", "64", "--rlimit_cpu", "10", "-t", "20", "--"], 1),
            ("firejail", ["firejail", "--quiet", "--noprofile", "--"], 1),
            ("podman, runc", [*podman, "run", "--rm", "-i", "--runtime", "runc", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1000:1000", "--network", "none",
                              *quoted("-v", *(f"{m}:{m}:ro" for m in sorted(mounts))), "--rootfs", rootfs], 10),
        ]:
            program = shutil.which(argv[0])
            if not program:
                self.note(f"left out: {name}: not installed")
                continue
            if argv[0] == "podman":
                self.rootfs(rootfs, mounts)
                self.ending.append([program, *podman[1:], "rm", "--all", "--force"])
            command = Command(name, [program, *argv[1:], self.python, "-I", "-c", "pass"], self.bare_env)
            try:
                measure(command, self.errors)
            except Failed as e:
                self.note(f"left out: {name}: {e}")
                continue
            yield name, [program, *argv[1:]], every

    def prefix(self):
        return subprocess.run([self.python, "-I", "-c", "import sys; print(sys.base_prefix)"], stdout=subprocess.PIPE, check=True).stdout.decode().strip()

    def rootfs(self, path, mounts):
        """Makes an empty tree with this host's links into /usr. The files themselves are mounted, read-only."""
        for name in ("etc", "proc", "sys", "dev", "tmp", "run", *(m.strip("/") for m in mounts)):
            os.makedirs(os.path.join(path, name))
        for name in ("bin", "sbin", "lib", "lib64"):
            if os.path.islink("/" + name):
                os.symlink(os.readlink("/" + name), os.path.join(path, name))

    def warm(self):
        """Starts a template without pandas and one with it. Returns {preload: environment}."""
        known = subprocess.run([self.py3run, "config", "init"], env=self.env, stdout=subprocess.PIPE).stdout.decode()
        if "[warm]" not in known:
            self.note("left out: warm: this py3run has no templates")
            return {}
        ctl = self.build("./cmd/py3runctl", "py3runctl")
        os.mkdir(self.path("run"), 0o700)
        found = {}
        for preload in [""] + ["pandas"] * self.pandas:
            env = dict(self.env, XDG_RUNTIME_DIR=self.path("run"), PY3RUN_WARM_ENABLED="true", PY3RUN_WARM_PRELOAD=json.dumps([preload] * bool(preload)))
            self.ending.append([ctl, "warm", "stop", env])
            until = time.monotonic() + 20
            while time.monotonic() < until and preload not in found:
                if self.ask({"code": f"import {preload or 'sys'}"}, env)["isolation"]["warm"]:
                    found[preload] = env
                time.sleep(0.1)
            if preload not in found:
                self.note("left out: warm: no run was warm within 20 seconds")
        LASTING.update(children())
        return found

    def synced(self, count, abreast):
        """Writes two records and waits for the disk, as every run does."""
        fd = os.open(self.path("synced"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for _ in range(2):
            os.write(fd, b"x" * 1024)
            os.fdatasync(fd)
        os.close(fd)

    def bridges(self, count, *options):
        """Starts bridges, and waits until their templates are ready."""
        started = [Bridge(self, *options) for _ in range(count)]
        self.ending.extend(started)
        for b in started:
            for _ in range(2):  # the first one starts the interpreter
                b.call(1, 1)
                time.sleep(1)
        return started

    def protections(self):
        def isolation(*options):
            i = self.ask({"code": ""}, self.env, *options)["isolation"]
            return i["enforced"], i["missing"], i["method"]
        usual = isolation()
        for name, change in PROTECTIONS:
            options = ["--set", change]
            changed = isolation(*options)
            if name.startswith("with ") and changed[0] == usual[0]:
                self.note(f"left out: {name}: " + "; ".join(gap["why"] for gap in changed[1] if gap not in usual[1]))
            elif changed == usual and name != "without audit log":
                self.note(f"left out: {name}: there is none here as it is")
            else:
                yield self.run("pass", name, options)
        yield self.run("pass", "once more (what chance gives)")

    def jobs(self):
        o, runs = self.o, self.o.runs
        self.pandas = not subprocess.run([self.python, "-I", "-c", "import importlib.util as u; import sys; sys.exit(not u.find_spec('pandas'))"]).returncode
        want = lambda group: not o.only or group in o.only
        peers = list(self.peers()) if any(map(want, GROUPS[:-5])) else []
        warm = self.warm() if any(map(want, ("empty", "json", "pandas", "parallel"))) else {}
        beside = lambda code, stdin=os.devnull, most=1: [Command(name, [*argv, self.python, "-I", "-c", code], self.bare_env, stdin, False, every)
                                                         for name, argv, every in peers if every <= most]

        def plain(group, name, code, rounds, preload="", most=1, extra=()):
            request = self.request(group, code=code)
            hot = [self.exec(request, f"py3run exec, warm{', preloaded' * bool(preload)}", warm[preload])] if preload in warm else []
            return Job(group, name, [self.bare(code), self.run(code), self.exec(request), *hot, *extra, *beside(code, most=most)], rounds)

        if want("empty"):
            version = Command("py3run version", [self.py3run, "version"], self.env)
            yield plain("empty", "empty job", "pass", runs, most=10, extra=[version])
        if want("json"):
            yield plain("json", "import json", "import json", runs)
        if want("pandas") and self.pandas:
            yield plain("pandas", "import pandas", "import pandas", max(5, runs // 4), "pandas")
        elif want("pandas"):
            self.note(f"left out: import pandas: {os.path.basename(self.python)} has none")
        if want("data"):
            rows = [{"tank": f"T{i % 97}", "day": f"2026-03-{i % 28 + 1:02}", "level": i * 0.37, "ok": i % 3 == 0} for i in range(119500)]
            variables = self.request("variables", rows=rows)
            size = os.stat(variables).st_size
            request = self.request("data", code="result = rows", variables={"rows": rows})
            code = "import json, sys; sys.stdout.write(json.dumps(json.loads(sys.stdin.read())['rows']))"
            yield Job("data", f"{size / 2**20:.0f} MB in and out as JSON",
                      [self.bare(code, variables), self.exec(request), *beside(code, variables)], max(5, runs // 4), least=size * 3 // 4)
        if want("output"):
            code = "import sys; block = b'x' * 65535 + b'\\n'; [sys.stdout.buffer.write(block) for _ in range(%d)]" % (OUTPUT_MB * 16)
            yield Job("output", f"{OUTPUT_MB} MB printed", [self.bare(code), self.run(code), *beside(code)], max(5, runs // 2), least=OUTPUT_MB << 20)
        if want("parallel"):
            crowd = plain("parallel", "100 empty jobs at once", "pass", max(3, runs // 12))
            yield crowd._replace(commands=[c for c in crowd.commands if c.env is not self.bare_env or c.name == "bare Python"], count=100, abreast=100)
            yield crowd._replace(name=f"{o.count:,} empty jobs, {ABREAST} at a time", count=o.count, abreast=ABREAST)
        if want("bridge"):
            first, *others = self.bridges(4)
            yield Job("bridge", "a request to a bridge", [self.bare("pass"), Command("two fdatasync", [""], call=self.synced),
                                                          Command("py3run bridge, a request", [""], warm=True, call=first.call)], runs)
            every = [first, *others]
            yield Job("bridge", f"{o.count:,} requests from four callers", [self.bare("pass"), Command("py3run bridge, four of them", [""], call=lambda count, _: ask_all(every, count))],
                      max(3, runs // 12), count=o.count, abreast=4)
        if want("keep"):
            script, (kept,) = Script(self), self.bridges(1, "--state=keep")
            self.ending.append(script)
            series = lambda call: lambda *_: call(KEPT, 1)
            yield Job("keep", f"{KEPT} requests, one after the other, where bare Python is a script that answers lines", [
                Command("bare Python", [""], call=series(script.call)),
                Command("two fdatasync for each", [""], call=lambda *_: [self.synced(1, 1) for _ in range(KEPT)]),
                Command("py3run bridge --state=keep", [""], warm=True, call=series(kept.call)),
                Command("once more (what chance gives)", [""], call=series(script.call))], runs)
        if want("floor"):
            script, (kept,), program = Script(self), self.bridges(1, "--state=keep"), self.build("./examples/bench/floor", "floor")
            steps = list(Floor.STEPS)
            floors = [Floor(self, program, steps[:i], kept) for i in range(len(steps) + 1)]
            self.ending += [script, *floors]
            series = lambda call: lambda *_: call(KEPT, 1)
            names = ["a line to another process and back", *Floor.STEPS.values()]
            yield Job("floor", f"the floor of {KEPT} requests, where bare Python is a script that answers lines", [
                Command("bare Python", [""], call=series(script.call)),
                *(Command(name, [""], call=series(f.call)) for name, f in zip(names, floors)),
                Command("two fdatasync for each", [""], call=lambda *_: [self.synced(1, 1) for _ in range(KEPT)]),
                Command("py3run bridge --state=keep", [""], warm=True, call=series(kept.call))], runs)
        if want("drop-in"):
            os.makedirs(self.path("links"))
            link = self.path("links", "python3")
            os.symlink(self.py3run, link)
            env = dict(self.env, PY3RUN_PYTHON_INTERPRETER=self.python)
            request = self.request("pass", code="pass")
            bare = Command("bare Python", [self.python, "-c", "pass"], self.bare_env)
            yield Job("drop-in", "start", [bare, bare._replace(name="bare Python once more"), Command("link to py3run", [link, "-c", "pass"], env), self.exec(request)], runs)
            with open(self.path("bridge.py"), "w") as f:
                f.write(BRIDGE)
            with open(self.path("session.py"), "w") as f:
                f.write(SESSION % CALLS)
            session = lambda name, python, env: Command(name, [self.python, "-I", self.path("session.py"), python, self.path("bridge.py")], env)
            yield Job("drop-in", f"session of {CALLS:,} calls by lines", [session("bare Python", self.python, self.bare_env),
                      session("bare Python once more", self.python, self.bare_env), session("link to py3run", link, env)], max(5, runs // 4))
        if want("protections"):
            yield Job("protections", "each protection off and on", [self.bare("pass"), self.run("pass", "py3run run, as it comes"), *self.protections()], runs)

    def play(self, job):
        """Runs all rounds of a job, in turns. Returns {name of the command: {round: Sample}}."""
        samples = {c.name: {} for c in job.commands}
        alone = job.count == 1
        before, cold = lasting_cpu(), collections.Counter()
        for i in range(-1, job.rounds):  # the first one warms up
            turn = i % len(job.commands)
            for c in job.commands[turn:] + job.commands[:turn]:
                if c.name not in samples or (i > 0 and i % c.every):
                    continue
                self.tell(f"{job.name}: round {max(i, 0) + 1} of {job.rounds}: {c.name}")
                open(self.errors, "w").close()
                try:
                    sample = measure(c, self.errors, job.count, job.abreast, read=alone and not c.call and bool(job.least or c.warm))
                    if alone and c.warm:
                        time.sleep(REST)
                    if job.least and len(sample.out) < job.least:
                        raise Failed(f"only {len(sample.out)} bytes came out")
                    cold[c.name] += alone and c.warm and not c.call and i >= 0 and b'"warm":true' not in sample.out
                except Failed as e:
                    if c.name == "bare Python":
                        raise
                    del samples[c.name]
                    self.broken |= c.argv[0] == self.py3run
                    self.note(f"left out: {job.name}: {c.name}: {e}")
                    continue
                if i >= 0:
                    samples[c.name][i] = sample._replace(out=None)
        spent = sum(seconds - before.get(pid, 0) for pid, seconds in lasting_cpu().items())
        for c in job.commands:
            if (c.warm or c.call) and c.name in samples and c.name != "two fdatasync":  # add the template's work for these runs
                samples[c.name] = {i: s._replace(cpu=s.cpu + spent / (job.rounds + 1)) for i, s in samples[c.name].items()}
                if cold[c.name]:
                    self.note(f"{job.name}: {c.name}: {cold[c.name]} of {job.rounds} runs were not warm")
        return samples

    def rows(self, job):
        samples = self.play(job)
        self.tell(f"{job.name}: memory")
        median, alone = statistics.median, job.count == 1
        bare, usual = samples["bare Python"], samples.get("py3run run, as it comes")
        for c in job.commands:
            mine = samples.get(c.name)
            if mine is None:
                continue
            here = [mine[i] for i in mine]
            there = [bare[i] for i in mine]
            wall = [s.wall for s in here]
            yield Row(c.name, len(wall), median(wall) * 1e3, median(wall) / median(b.wall for b in there), median(s.wall / b.wall for s, b in zip(here, there)),
                      min(wall) / min(b.wall for b in there), median(s.cpu for s in here) / median(b.cpu for b in there),
                      largest(c, self.python) if alone and not c.warm and not c.call else None, max(own(c, self.errors) for _ in range(3)) if alone and not c.call else None,
                      median((mine[i].wall - usual[i].wall) * 1e3 for i in mine) if usual and c.argv[0] == self.py3run else None)

    def host(self):
        release = {}
        for path in ("/etc/os-release", "/usr/lib/os-release"):
            if not release and os.path.exists(path):
                with open(path) as f:
                    release = dict(line.strip().split("=", 1) for line in f if "=" in line)
        with open("/proc/cpuinfo") as f:
            model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
        version = subprocess.run([self.python, "-I", "-c", "import platform as p; print(p.python_implementation(), p.python_version())"], stdout=subprocess.PIPE)
        groups = "cgroup v2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "cgroup v1"
        return dict(processor=model, cores=len(os.sched_getaffinity(0)), system=release.get("PRETTY_NAME", "Linux").strip('"'), kernel=platform.release().split("-")[0],
                    groups=groups, python=version.stdout.decode().strip(), user="root" if os.geteuid() == 0 else "an ordinary user", binary=os.stat(self.py3run).st_size)

    def end(self):
        """Removes everything: templates, containers, processes, mounts, files."""
        self.tell()
        for argv in reversed(self.ending):
            if isinstance(argv, Bridge):
                argv.end()
                continue
            env = argv.pop() if isinstance(argv[-1], dict) else self.bare_env
            try:
                subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)
            except (OSError, subprocess.TimeoutExpired):
                pass
        begin = time.monotonic()
        while children() and time.monotonic() < begin + 10:
            for pid in children():
                os.kill(pid, signal.SIGTERM if time.monotonic() < begin + 3 else signal.SIGKILL)
            time.sleep(0.05)
            while children() and os.waitpid(-1, os.WNOHANG)[0]:
                pass
        for parent in set(glob.glob("/sys/fs/cgroup/**/libpod_parent", recursive=True)) - self.parents:
            subprocess.run(["find", parent, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"], stderr=subprocess.DEVNULL)
        with open("/proc/self/mountinfo") as f:
            mounts = [line.split()[4] for line in f if line.split()[4].startswith(self.work + "/")]
        for mount in reversed(mounts):
            subprocess.run(["umount", "-l", mount])
        shutil.rmtree(self.work)


# Output.

HEADS = ["", "runs", "median ms", "ratio of medians", "median of paired ratios", "ratio of minima", "user + system", "largest process MB", "own MB", "difference ms"]


def cells(row):
    number = lambda value, form: "" if value is None else form % value
    return [row.name, str(row.runs), "%.1f" % row.median, *("%.2f" % r if r >= 0.1 else "%.3f" % r for r in (row.medians, row.paired, row.minima, row.cpu)),
            number(row.peak, "%.1f"), number(row.own, "%.1f"), number(row.difference, "%+.2f")]


def table(rows, markdown):
    lines = [HEADS] + [cells(r) for r in rows]
    used = [i for i in range(len(HEADS)) if any(line[i] for line in lines[1:])]
    lines = [[line[i] for i in used] for line in lines]
    if markdown:
        lines.insert(1, ["---"] + ["---:"] * (len(used) - 1))
        return "".join("| " + " | ".join(line) + " |\n" for line in lines)
    widths = [max(len(line[i]) for line in lines) for i in range(len(used))]
    return "".join("  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths))).rstrip() + "\n" for line in lines)


def report(data, markdown, plot):
    h = data["host"]
    text = f"""{data['date']}: {h['processor']}, {h['cores']} cores, load {data['load'][0]:.1f} before and {data['load'][1]:.1f} after; {h['system']}, Linux {h['kernel']}, {h['groups']}; {h['python']}; as {h['user']}; stripped binary {h['binary']:,} bytes.
""" + (f"\n![ratios to bare Python]({os.path.basename(plot)})\n" if markdown and plot else "")
    for job in data["jobs"]:
        text += ("\n### " if markdown else "\n") + job["name"] + "\n\n" + table([Row(**r) for r in job["rows"]], markdown)
    if data["notes"]:
        text += "\n" + "".join(("- " if markdown else "") + note + "\n" for note in data["notes"])
    return text


def chart(data):
    """Draws horizontal bars on a logarithmic axis. They begin at 1, bare Python; to the right is slower, to the left faster."""
    shown = [(job["name"], [Row(**r) for r in job["rows"][1:]]) for job in data["jobs"]]
    ratios = [r.paired for _, rows in shown for r in rows]
    ticks = [t for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100)]
    low = max([t for t in ticks if t <= min(ratios + [0.5])], default=ticks[0])
    high = min([t for t in ticks if t >= max(ratios + [2])], default=ticks[-1])
    left, right, step, width, top = 250, 800, 19, 880, 76
    x = lambda ratio: left + (right - left) * (math.log(min(max(ratio, low), high)) - math.log(low)) / (math.log(high) - math.log(low))
    height = top + sum(34 + step * len(rows) for _, rows in shown) + 20
    colour = lambda name: "#c2571a" if "warm" in name else "#1f6f8b" if name.startswith(("py3run", "with", "once")) else "#9aa5ad"
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" fill="#222">',
           f'<rect width="{width}" height="{height}" fill="#fff"/>',
           '<text x="16" y="24" font-size="16" font-weight="bold">Time of a run, as a ratio to bare Python</text>',
           f'<text x="16" y="43" fill="#666">median of paired runs in one sitting, logarithmic; to the left of 1 is faster; {html.escape(data["date"])}, {html.escape(data["host"]["python"])}, {data["host"]["cores"]} cores</text>']
    for tick in ticks:
        if low <= tick <= high:
            out.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top - 6}" y2="{height - 14}" stroke="{"#444" if tick == 1 else "#e3e6e8"}"/>'
                       f'<text x="{x(tick):.1f}" y="{top - 11}" text-anchor="middle" fill="#666">{tick:g}</text>')
    y = top
    for name, rows in shown:
        y += 34
        out.append(f'<text x="16" y="{y - 9}" font-weight="bold">{html.escape(name)}</text>')
        for r in rows:
            a, b = sorted((x(1), x(r.paired)))
            out.append(f'<text x="{left - 10}" y="{y + 10}" text-anchor="end">{html.escape(r.name)}</text>'
                       f'<rect x="{a:.1f}" y="{y}" width="{max(b - a, 1):.1f}" height="{step - 6}" fill="{colour(r.name)}"/>'
                       f'<text x="{width - 20}" y="{y + 10}" text-anchor="end">{cells(r)[4]}</text>')
            y += step
    return "\n".join(out) + "\n</svg>\n"


BEGIN, END = "<!-- bench.py -->\n", "<!-- end of bench.py -->\n"
GROUPS = ["empty", "json", "pandas", "data", "output", "parallel", "bridge", "keep", "floor", "drop-in", "protections"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--runs", type=int, default=40, help="rounds of a cheap job; the dear ones have fewer (40)")
    p.add_argument("--only", action="append", choices=GROUPS, metavar="GROUP", help="only this group; can be repeated")
    p.add_argument("--count", type=int, default=100, help=f"how many runs, {ABREAST} at a time, stand for throughput (100)")
    p.add_argument("--python", default=os.environ.get("PYTHON") or sys.executable, help="the interpreter; a shim is followed")
    p.add_argument("--py3run", help="this one instead of one built here")
    p.add_argument("--json", metavar="FILE", help="write the figures")
    p.add_argument("--plot", metavar="FILE.svg", help="draw the ratios")
    p.add_argument("--markdown", nargs="?", const="-", metavar="FILE", help="print Markdown, or put it between the two marks of FILE")
    o = p.parse_args()
    for s in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, lambda n, _: sys.exit(128 + n))
    adopt()
    load = os.getloadavg()[0]
    s = Sitting(o)
    try:
        jobs = [dict(name=job.name, group=job.group, rows=[r._asdict() for r in s.rows(job)]) for job in s.jobs()]
        data = dict(date=datetime.date.today().isoformat(), host=s.host(), load=[load, os.getloadavg()[0]], jobs=jobs, notes=s.notes)
    finally:
        s.end()
    if o.json:
        with open(o.json, "w") as f:
            json.dump(data, f, indent=1)
    if o.plot:
        with open(o.plot, "w") as f:
            f.write(chart(data))
    text = report(data, o.markdown, o.plot)
    if o.markdown in (None, "-"):
        print(text, end="")
    else:
        with open(o.markdown) as f:
            before, rest = f.read().split(BEGIN)
        with open(o.markdown, "w") as f:
            f.write(before + BEGIN + text + END + rest.split(END)[1])
    return int(s.broken)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except (Failed, OSError, subprocess.SubprocessError) as e:
        sys.exit(f"bench.py: {e}")
