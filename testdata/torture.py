#!/usr/bin/env python3
"""Starts py3run many times at once with unruly jobs, disturbs the launchers, and counts what they leave or get wrong.

    testdata/torture.py --py3run BIN [--runs 10000] [--jobs 8] [--seed N] [--python /usr/bin/python3] [--user nobody] [--warm]
                        [--policy --py3runctl BIN] [--keep-going]

The runs come in batches. After each batch nothing should be alive any more. Then a plain run lets py3run
sweep what killed launchers left, and the program counts what remains. It stops after the first batch with a
fault, unless --keep-going is given. The same --seed gives the same jobs, disturbances and delays; their exact
timing still depends on the machine.

As root the program moves into a pid and mount namespace and into bounded control groups of its own. Any
process there that is alive at a count is a survivor. Working directories lie on a small tmpfs. Nothing
outlives the program, however it ends. --user (root only) makes py3run run as that user. Without root there are
no full disks and no read-only control groups, and survivors are recognised by the directory's name in their
environment. With --warm the runs take workers of templates, and the program kills templates and their
interpreters at random. With --policy they come from users of a policy, with keys, limits and stored scripts
(tortureaccess.py); at the end the program waits a minute for the summaries of refusals. It looks for control groups on the whole machine, so a launcher that somebody else
kills at the same time counts too.

Needs Python 3.8 or newer, nothing else; as root also unshare, mount, umount and setpriv (util-linux).
Exit status: 0 no faults, 1 faults, 2 the program could not start, 130 interrupted.
"""
import argparse, collections, contextlib, concurrent.futures, hashlib, json, os, pwd, random, re, resource, shutil, signal, stat, subprocess, sys, tempfile, threading, time

import tortureaccess

BATCH = 500        # runs between two counts
SLACK = 5          # seconds that a run may take beyond its time limit
PIDS = 2000        # of the whole harness
INSIDE = "TORTURE_HOME"  # set in the harness's own namespace

DEFAULTS = {"timeout_seconds": 30, "memory_mb": 256, "processes": 20, "disk_mb": 32}
# name: weight, limits, the statuses that an undisturbed run may have, code. Every job ends by itself some day.
JOBS = {
    "quick": (8, {}, "ok", "result = sum(range(1000))"),
    "print": (2, {"output_mb": 1}, "ok", "for i in range(20000): print('x' * 100)"),
    "sleep": (1, {"timeout_seconds": 0.4}, "timeout", "import time; time.sleep(60)"),
    "cpu": (1, {"cpu_seconds": 0.2}, "cpu_limit", "import time\nwhile time.process_time() < 20: pass"),
    "daemon": (2, {}, "ok", "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: time.sleep(600)\n    os._exit(0)"),
    "stubborn": (1, {"timeout_seconds": 0.4}, "timeout",
                 "import signal, time\nfor s in set(range(1, 65)) - {9, 19, 32, 33}: signal.signal(s, signal.SIG_IGN)\ntime.sleep(60)"),
    "stopped": (1, {"timeout_seconds": 0.4}, "timeout", "import os; os.kill(os.getpid(), 19)"),
    "burst": (2, {}, "ok", "import os, time\nfor i in range(14):\n    if os.fork() == 0:\n        time.sleep(60)\n        os._exit(0)\ntime.sleep(0.15)"),
    "hog": (1, {"memory_mb": 64}, "memory_limit", "held = []\nfor i in range(200): held.append(bytearray(1 << 20))"),
    "deep": (2, {}, "ok", "import os\nos.mkdir('shut'); open('shut/file', 'w').close(); os.chmod('shut', 0)\n"
             "for i in range(150):\n    os.mkdir('d' * 60); os.chdir('d' * 60)\n    if i % 50 == 49: os.chmod('.', 0o500 if i < 149 else 0)\n    if i % 50 == 49 and i < 149: os.chmod('.', 0o700)"),
    "disk": (1, {"disk_mb": 4}, "disk_limit", "import time\nwith open('big', 'wb') as f:\n    for i in range(12): f.write(bytes(1 << 20)); time.sleep(0.01)"),
    "zombies": (2, {}, "ok", "import os, time\nfor i in range(12):\n    if os.fork() == 0: os._exit(0)\ntime.sleep(0.15)"),
    "suicide": (2, {}, "signal", "import os; os.kill(os.getpid(), 9)"),
    "pool": (1, {}, "ok", "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as p: result = p.map(abs, [-1, 2])"),
    "closed": (2, {}, "ok exit", "import os; os.closerange(0, 1 << 17)"),
}
HARMS = {"none": 40, "kill": 30, "term": 10, "int": 5, "stdout": 5, "stdin": 5, "full audit": 1.5, "full work": 1.5, "groups": 2}  # in 100 runs
SIGNALS = {"kill": [signal.SIGKILL], "term": [signal.SIGTERM], "int": [signal.SIGINT, signal.SIGINT]}

EXIT = {"ok": 0, "error": 1, "denied": 121, "rate_limited": 122, "memory_limit": 123, "process_limit": 123,
        "disk_limit": 123, "output_limit": 123, "timeout": 124, "idle_timeout": 124, "cpu_limit": 124,
        "bad_request": 125, "config_error": 125, "launch_failed": 125, "audit_unavailable": 125, "internal": 125,
        "python_not_executable": 126, "python_not_found": 127}
UNRECORDED = ("bad_request", "config_error", "audit_unavailable")
KINDS = ("survivors", "left files", "left control groups", "left mounts", "bad results", "wrong exit codes",
         "unexpected statuses", "audit chain", "audit records", "too slow", "left slots", "refusals", "leaked keys")

# code: by what records tell of this run: the SHA-256 of its code, or with --policy its id in the request
Run = collections.namedtuple("Run", "number job harm caller code mark status run_id killed answered")


class Torture:
    def __init__(self, home, options):
        self.home, self.options = home, options
        self.root = os.geteuid() == 0
        self.inside = INSIDE in os.environ
        self.faults = {kind: {} for kind in KINDS}  # kind -> texts, each once
        self.statuses, self.runs, self.active = collections.Counter(), [], set()
        self.lock, self.stop = threading.Lock(), False
        self.killed_templates, self.warm, self.calm = 0, 0, threading.Event()
        who = pwd.getpwnam(options.user) if options.user else pwd.getpwuid(os.geteuid())
        self.uid, self.gid = who.pw_uid, who.pw_gid
        self.binary = shutil.copy(options.py3run, home + "/py3run")
        os.chmod(self.binary, 0o755)
        os.mkdir(home + "/full")
        for name in ("audit", "began", "work", "tmp", "run", "cache", "state"):
            os.mkdir(f"{home}/{name}", 0o700)
            if name == "work" and self.inside:
                mount_tmpfs(f"{home}/{name}", "size=512m,mode=700")
            os.chown(f"{home}/{name}", self.uid, self.gid)
        self.env = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": home, "LANG": "C.UTF-8", "TMPDIR": home + "/tmp", "PY3RUN_CONFIG": home + "/config.toml",
                    "XDG_RUNTIME_DIR": home + "/run", "XDG_CACHE_HOME": home + "/cache", "XDG_STATE_HOME": home + "/state", "PY3RUN_PYTHON_INTERPRETER": options.python,
                    "PY3RUN_SECURITY_AUDIT_DIR": home + "/audit", "PY3RUN_SECURITY_ISOLATION_WORKING_DIR": template(home + "/work/runs")}
        if options.warm:
            self.env.update(PY3RUN_WARM_ENABLED="true", PY3RUN_WARM_SPARES="3")
        with open(home + "/config.toml", "w"):
            pass
        for name in ("PER_USER_PER_MINUTE", "PER_USER_PER_HOUR", "GLOBAL_PER_MINUTE", "CONCURRENT_PER_USER"):
            self.env["PY3RUN_SECURITY_RATE_LIMIT_" + name] = "0"
        self.access = None
        if options.policy:
            shutil.copy(options.py3runctl, home + "/py3runctl")
            os.chmod(home + "/py3runctl", 0o755)
            if self.inside and os.path.isdir("/etc/py3run"):
                mount_tmpfs("/etc/py3run", "mode=755")  # here alone: the host's own policy does not hold
            self.access = tortureaccess.Access(self)
        self.mounts, self.groups = mounts(), groups()

    def as_user(self, command):
        """Returns a command that runs as the user of --user."""
        if self.root and self.uid:
            command = ["setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--", *command]
        return command

    def fault(self, kind, text):
        with self.lock:
            self.faults[kind].setdefault(text)

    # One run.

    def random_run(self, number):
        if self.stop:
            return
        rng = random.Random(f"{self.options.seed}/{number}")
        job = rng.choices(list(JOBS), [weight for weight, *_ in JOBS.values()])[0]
        harm = rng.choices(list(HARMS), list(HARMS.values()))[0]
        if not self.inside and harm in ("full audit", "full work", "groups") or self.access and harm == "full audit":
            harm = "none"
        try:
            self.run(number, job, harm, rng)
        except Exception as e:  # a fault of this run must not end the harness
            self.fault("bad results", f"run {number} ({job}, {harm}): the check itself stopped: {type(e).__name__}: {e}")

    def run(self, number, job, harm, rng):
        _, limits, _, code = JOBS[job]
        limits, mark = dict(DEFAULTS, **limits), f"{self.home}/began/{number}"
        code = f"open({mark!r}, 'w').close()\n{code}\n"
        request = {"id": f"run-{number}", "code": code, "limits": limits}
        env, command = dict(self.env), self.as_user([self.binary])
        told, caller = hashlib.sha256(code.encode()).hexdigest(), ""
        if self.access:
            told, caller = request["id"], self.access.ask(rng, request, env, mark)
        if harm == "groups":  # "bind" remounts only this namespace's mount, never the file system
            script = 'for m in $(awk \'$5 ~ "^/sys/fs/cgroup" { print $5 }\' /proc/self/mountinfo); do mount -o remount,bind,ro "$m" || exit 99; done; exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", script, "sh", *command]
        disk = self.full_disk(number, harm, rng, env, request) if harm.startswith("full") else None
        out, err, code_of_exit, took = self.start(command, env, json.dumps(request).encode(), harm, limits["timeout_seconds"], rng)
        self.judge(Run(number, job, harm, caller, told, mark, "", "", False, False), out, err, code_of_exit)
        if took > limits["timeout_seconds"] + SLACK:
            self.fault("too slow", f"run {number} ({job}, {harm}): {took:.1f} s, limit {limits['timeout_seconds']} s")
        if disk:
            if harm == "full audit":
                records, found = chain(disk)
                kind = "audit chain"
                if os.path.exists(mark) and not any(r.get("event", {}).get("action") == "execution-start" for r in records):
                    self.fault("audit records", f"run {number} ({job}, {harm}): its code began without a start record")
            else:
                kind, found = "left files", sorted(set(os.listdir(disk)) - {"filler", "runs"}) + (os.listdir(disk + "/runs") if os.path.isdir(disk + "/runs") else [])
            for text in found:
                self.fault(kind, f"run {number} ({job}, {harm}): {text}")
            if subprocess.run(["umount", disk], stderr=subprocess.DEVNULL).returncode != 0:
                self.fault("left mounts", f"run {number} ({job}, {harm}): the full disk is busy after the run")
                subprocess.run(["umount", "--lazy", disk])

    def full_disk(self, number, harm, rng, env, request):
        """Mounts a tiny file system that is full or soon will be.

        The first write to fail is that of the start record, the end record, the code's file or a file of the code.
        """
        disk = f"{self.home}/full/{number}"
        os.mkdir(disk)
        mount_tmpfs(disk, f"size={rng.choice((4, 4, 8))}k,nr_inodes={rng.randint(2, 8)},mode=700,uid={self.uid},gid={self.gid}")
        if rng.random() < 0.3:
            with contextlib.suppress(OSError), open(disk + "/filler", "wb", buffering=0) as f:
                f.write(bytes(8 << 10))
        if harm == "full audit":
            env["PY3RUN_SECURITY_AUDIT_DIR"] = disk
            request["labels"] = {f"fill{i}": "x" * 250 for i in range(rng.randrange(8))}
        else:
            env["PY3RUN_SECURITY_ISOLATION_WORKING_DIR"] = template(disk + "/runs")
        return disk

    def start(self, command, env, request, harm, limit, rng):
        """Starts a launcher and disturbs it. Returns stdout, stderr, exit code and seconds."""
        when = rng.choice((rng.uniform(0, 0.06), rng.uniform(0.06, 0.4)))
        between, cut = rng.uniform(0, 0.05), rng.randrange(len(request))
        began, out, err = time.monotonic(), b"", b""
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   env=env, cwd=self.home, start_new_session=True)
        self.active.add(process)
        try:
            with contextlib.suppress(BrokenPipeError):  # a pipe can hold all of it, so the write never blocks
                process.stdin.write(request[:cut] if harm == "stdin" else request)
                process.stdin.close()
            process.stdin = None
            if harm == "stdout":
                time.sleep(when)
                process.stdout.close()
                process.stdout = None
            try:
                out, err = process.communicate(timeout=when if harm in SIGNALS else limit + SLACK + 20)
            except subprocess.TimeoutExpired:
                for i, number in enumerate(SIGNALS.get(harm, [signal.SIGKILL])):
                    time.sleep(between if i else 0)
                    process.send_signal(number)
                try:
                    out, err = process.communicate(timeout=limit + SLACK + 20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    out, err = process.communicate(timeout=20)
        finally:
            self.active.discard(process)
        return out, err, process.returncode, time.monotonic() - began

    def judge(self, run, out, err, code):
        """Checks the answer against the contract, and notes the run for check_records."""
        name = f"run {run.number} ({run.job}, {run.harm}{', ' + run.caller if run.caller else ''})"
        if self.access and self.access.leaks((out or b"") + (err or b"")):
            self.fault("leaked keys", f"{name}: in its output")
        deadly = SIGNALS.get(run.harm, [0])[0]
        # SIGTERM or SIGINT also kills a launcher that does not catch signals yet. Then no code may have begun.
        if deadly and code == -deadly and (deadly == signal.SIGKILL or not out and not os.path.exists(run.mark)):
            return self.note(run._replace(status=f"(killed by {deadly.name})", killed=True))
        if run.harm == "stdout":
            if code < 0:
                self.fault("wrong exit codes", f"{name}: {code} after its stdout was closed; stderr: {err[-200:]!r}")
            return self.note(run._replace(status="(stdout closed)"))
        try:
            if out.count(b"\n") != 1 or not out.endswith(b"\n"):
                raise ValueError(f"{out.count(10)} lines, {len(out)} bytes")
            result = strict(out.decode())
            for key in ("protocol", "id", "run_id", "success", "status", "started_at"):
                result[key]
            if result["success"] != (result["status"] == "ok"):
                raise ValueError(f"success is {result['success']}, status {result['status']}")
            if result["id"] != f"run-{run.number}" and result["status"] not in ("bad_request", "cancelled"):
                raise ValueError(f"id is {result['id']}")
        except (ValueError, KeyError, TypeError) as e:
            self.fault("bad results", f"{name}: {type(e).__name__}: {e}; exit code {code}, stdout {out[:150]!r}, stderr {err[-300:]!r}")
            return self.note(run._replace(status="(no result)"))
        status, wanted = result["status"], []
        self.warm += result.get("isolation", {}).get("warm", False)
        if status == "exit":
            wanted = [result.get("exit_code")]
        elif status == "signal":
            wanted = [128 + getattr(signal, result.get("signal", ""), -1)]
        elif status == "cancelled":
            wanted = [128 + deadly] if deadly else []
        elif status in EXIT:
            wanted = [EXIT[status]]
        if code not in wanted:
            self.fault("wrong exit codes", f"{name}: {code}, status {status}")
        usual = set(JOBS[run.job][2].split()) | {"int": {"cancelled"}, "term": {"cancelled"}}.get(run.harm, set())
        if self.access:
            usual = self.access.usual(run.caller, usual)
        if run.harm == "stdin":
            usual = {"bad_request"}
        if run.harm.startswith("full"):  # how the code handles it is up to the code
            usual |= {"audit_unavailable", "launch_failed", "error", "ok", "exit"}
        if status in tortureaccess.REFUSED and os.path.exists(run.mark):
            self.fault("unexpected statuses", f"{name}: {status}, and its code began")
        if status not in usual:
            self.fault("unexpected statuses", f"{name}: {status}: {str(result.get('error'))[:300]}")
        # A run that was cancelled while the launcher read the request started nothing, and leaves no record.
        unread = status == "cancelled" and "usage" not in result and not os.path.exists(run.mark)
        self.note(run._replace(status=status, run_id=result["run_id"], answered=status not in UNRECORDED and not unread))

    def note(self, run):
        with self.lock:
            self.statuses[run.status] += 1
            self.runs.append(run)

    # The counts. No job of ours runs now.

    def count(self, batch):
        self.look_for_survivors(batch)
        self.plain(f"plain-{batch}")
        if self.options.warm:
            self.end_templates()
        self.look_for_survivors(batch)
        records, broken = chain(self.home + "/audit")
        for text in broken:
            self.fault("audit chain", text)
        self.check_records(records)
        self.look_for_files(batch, records)
        left = settle(lambda: {g for g in groups() - self.groups if not occupied(g)})
        for group in sorted(left, reverse=True):  # inner groups before outer ones
            self.fault("left control groups", group)
            gone(group)
        for text in settle(lambda: mounts() - self.mounts):
            self.fault("left mounts", text)
        if self.access:
            self.access.count(batch, settle)

    def plain(self, number):
        """A run that nothing disturbs, and that nobody may refuse."""
        access, self.access = self.access, None
        self.run(number, "quick", "none", random.Random(0))
        self.access = access

    # Templates.

    def templates(self):
        """Returns the process ids of templates, and of their interpreters."""
        hosts, interpreters = [], []
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            with contextlib.suppress(OSError):
                command = open(f"/proc/{pid}/cmdline", "rb").read()
                if command.endswith(b"\0warm-template\0"):
                    hosts.append(pid)
                elif b"h,c,t=marshal" in command and not self.spare(pid):
                    interpreters.append((pid, int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])))
        return hosts, [pid for pid, parent in interpreters if parent in hosts]

    def spare(self, pid):
        """Reports whether a process is a worker: those are in a pid namespace below this one.

        When an interpreter is killed, its workers become children of the template, so the parent does not tell.
        """
        numbers = next(line for line in open(f"/proc/{pid}/status") if line.startswith("NSpid:")).split()
        return len(numbers) > len(next(line for line in open("/proc/self/status") if line.startswith("NSpid:")).split())

    def kill_templates(self):
        rng = random.Random(f"{self.options.seed}/templates")
        while not self.calm.wait(rng.choice((rng.uniform(0, 0.3), rng.uniform(0.5, 4)))):
            hosts, interpreters = self.templates()
            if hosts:
                with contextlib.suppress(OSError):
                    os.kill(rng.choice(hosts + interpreters), rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
                self.killed_templates += 1

    def end_templates(self):
        """Stops killing templates. Starts one, which removes what killed ones left, and ends it with SIGTERM."""
        self.calm.set()
        self.killer.join()
        command = self.as_user([self.binary, "warm-start"])
        if subprocess.run(command, env=self.env, stdout=subprocess.DEVNULL).returncode:
            self.fault("bad results", "no template can be started")
        for pid in self.templates()[0]:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)
        settle(lambda: self.templates()[0])

    def look_for_survivors(self, batch):
        for pid, command in settle(self.processes).items():
            self.fault("survivors", f"after batch {batch}: {pid} {command[:120]}")
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def processes(self):
        found, marker = {}, os.path.basename(self.home).encode()
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            if pid == os.getpid() or self.inside and pid == 1:
                continue
            with contextlib.suppress(OSError):
                state, command, environ = (open(f"/proc/{pid}/{name}", "rb").read() for name in ("stat", "cmdline", "environ"))
                if state.rpartition(b")")[2].split()[0] not in b"ZX" and (self.inside or marker in command or marker in environ):
                    found[pid] = command.replace(b"\0", b" ").decode(errors="replace")
        return found

    def look_for_files(self, batch, records):
        """Reports files with a run's id in their name or text: they belonged to a dead run. Locks and registries may stay."""
        by_told = {run.code: run for run in self.runs}
        owner = {r["run_id"].replace("-", "")[-16:]: self.told(r, by_told.get) for r in records if "run_id" in r and "code" in r}
        for place in ("work", "tmp", "run"):
            for name in sorted(os.listdir(f"{self.home}/{place}")):
                path = f"{self.home}/{place}/{name}"
                inner = [os.path.join(d, n) for d, dirs, files in os.walk(path) for n in dirs + files] if place == "run" else []
                if name == "runs":
                    inner = [os.path.join(path, n) for n in os.listdir(path)]
                left = [p for p in [path, *inner] if not may_stay(p, place)]
                for p in left:
                    hit = re.search("[0-9a-f]{16}", p[len(self.home):].replace("-", ""))
                    run = owner.get(hit.group()) if hit else None
                    self.fault("left files", f"after batch {batch}: {os.path.relpath(p, self.home)} "
                               + (f"(of run {run.number}: {run.job}, {run.harm})" if run else "(of a run without a record)"))
                if left:
                    remove(path)

    def told(self, record, get):
        """Returns what get says of the run that a record is about."""
        return get(record.get("code", {}).get("sha256")) or get(record.get("request_id"))

    def check_records(self, records):
        by_run, by_told = collections.defaultdict(list), collections.defaultdict(set)
        for r in records:
            action = r.get("event", {}).get("action")
            if action in ("execution-start", "execution-end", "execution-orphaned"):  # a repair has the id of the run that made it
                by_run[r.get("run_id")].append(action)
            for told in (r.get("code", {}).get("sha256"), r.get("request_id")):
                by_told[told].add(action)
        for run in self.runs:
            name = f"run {run.number} ({run.job}, {run.harm}, {run.status})"
            if run.harm == "full audit":
                continue  # it had a log of its own
            if run.status in tortureaccess.REFUSED:
                if by_run[run.run_id]:
                    self.fault("audit records", f"{name}: {by_run[run.run_id]}")
            elif run.answered and by_run[run.run_id] != ["execution-start", "execution-end"]:
                self.fault("audit records", f"{name}: {by_run[run.run_id] or 'none'}")
            elif os.path.exists(run.mark) and "execution-start" not in by_told[run.code]:
                self.fault("audit records", f"{name}: its code began without a start record")
            elif os.path.exists(run.mark) and not run.killed and "execution-end" not in by_told[run.code]:
                self.fault("audit records", f"{name}: no end record, although the launcher was not killed")
        for run_id, actions in by_run.items():
            if "execution-start" in actions and sum(a in ("execution-end", "execution-orphaned") for a in actions) != 1:
                self.fault("audit records", f"run id {run_id}: {actions}")

    def main(self):
        began, done = time.monotonic(), 0
        self.plain("first")
        if self.statuses["ok"] != 1:
            print("a plain run does not end well:", *(t for kind in self.faults.values() for t in kind), file=sys.stderr)
            return 2
        pool = concurrent.futures.ThreadPoolExecutor(self.options.jobs)
        if self.access:
            threading.Thread(target=self.access.watch, daemon=True).start()
        try:
            while done < self.options.runs and (self.options.keep_going or not any(self.faults.values())):
                batch = range(done + 1, min(done + BATCH, self.options.runs) + 1)
                if self.options.warm:
                    self.calm.clear()
                    self.killer = threading.Thread(target=self.kill_templates, daemon=True)
                    self.killer.start()
                for future in concurrent.futures.as_completed([pool.submit(self.random_run, n) for n in batch]):
                    future.result()
                    done += 1
                    if sys.stderr.isatty():
                        print(f"\r{done} of {self.options.runs} runs, {sum(map(len, self.faults.values()))} faults ", end="", file=sys.stderr, flush=True)
                if self.options.warm:
                    self.end_templates()
                self.count(batch[-1])
        except KeyboardInterrupt:
            self.stop = True
            for process in list(self.active):
                process.kill()
            pool.shutdown()
            for pid in self.processes():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            return 130
        pool.shutdown()
        refusals = 0
        if self.access:
            self.access.watching.set()
            refusals = self.access.check_refusals(self.runs, chain)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
        print(f"{len(self.runs)} runs in {time.monotonic() - began:.1f} s, seed {self.options.seed}, as {pwd.getpwuid(self.uid).pw_name}\n")
        if self.options.warm:
            print(f"  {self.warm} runs in spares, templates killed {self.killed_templates} times\n")
        if self.access:
            print(f"  {refusals} refusals in the log\n")
        for status, number in sorted(self.statuses.items(), key=lambda item: -item[1]):
            print(f"  {status:24}{number:7}")
        print()
        for kind, texts in self.faults.items():
            print(f"  {kind:24}{len(texts):7}")
        for kind, texts in self.faults.items():
            for text in list(texts)[:10]:
                print(f"\n{kind}: {text}", end="")
        print("\n" if any(self.faults.values()) else "", end="")
        return 1 if any(self.faults.values()) else 0


def template(directory):
    return directory + "/python3-${userId}-${executionId}"


def mount_tmpfs(directory, options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "torture", directory], check=True)


def settle(look):
    """Returns what look still finds after three seconds. Whatever ends or disappears before that is no fault."""
    deadline = time.monotonic() + 3
    while True:
        found = look()
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def mounts():
    with open("/proc/self/mountinfo") as f:
        return {" on ".join((line.split(" - ")[1].split()[0], line.split()[4])) for line in f if "/full/" not in line}


def groups():
    return {os.path.join(top, d) for top, dirs, _ in os.walk("/sys/fs/cgroup") for d in dirs
            if "py3run" in os.path.join(top, d)[len("/sys/fs/cgroup"):] and d not in ("py3run", "py3run.slice")}


def occupied(group):
    try:
        return any(open(os.path.join(top, "cgroup.procs")).read() for top, _, files in os.walk(group) if "cgroup.procs" in files)
    except OSError:
        return False


def may_stay(path, place):
    mode, name = os.lstat(path).st_mode, os.path.basename(path)
    if re.search("[0-9a-f]{12}", name):
        return False
    if stat.S_ISDIR(mode):
        return place == "run" or name == "runs"  # py3run's own directory
    if not stat.S_ISREG(mode) or place != "run" and not re.search("lock|registry", name):
        return False
    with open(path, "rb") as f:
        return not re.search(b"[0-9a-f]{12}", f.read(1 << 20))


def remove(path):
    subprocess.run(["chmod", "-R", "u+rwx", path], stderr=subprocess.DEVNULL)
    subprocess.run(["rm", "-rf", "--one-file-system", path])  # shutil.rmtree recurses too deep


def strict(line):
    def pairs(items):
        if len({key for key, _ in items}) != len(items):
            raise ValueError("a name stands twice in one object")
        return dict(items)
    def constant(name):
        raise ValueError(f"{name} is not JSON")
    return json.loads(line, object_pairs_hook=pairs, parse_constant=constant)


def chain(directory):
    """Returns the records of an audit directory in order, and the faults of their chain."""
    names = sorted(n for n in os.listdir(directory) if re.fullmatch(r"audit-\d{12}\.jsonl", n))
    names += [n for n in ("audit.jsonl",) if os.path.exists(f"{directory}/{n}")]
    records, faults, prev, seq = [], [], "0" * 64, 0
    for name in names:
        with open(f"{directory}/{name}", "rb") as f:
            lines = f.read().split(b"\n")
        if lines.pop():
            faults.append(f"{name}: the last line is torn")
        for number, line in enumerate(lines, 1):
            where = f"{name}:{number}"
            if len(line) >= 16384 or re.search(rb"[^\x20-\x7e]", line):
                faults.append(f"{where}: not ASCII, or {len(line)} bytes")
            try:
                record = strict(line)
            except ValueError as e:
                faults.append(f"{where}: {e}")
                continue
            if record.get("prev") != prev:
                faults.append(f"{where}: prev does not match the line before")
            if record.get("seq") != seq + 1:
                faults.append(f"{where}: seq {record.get('seq')} after {seq}")
            seq, prev = record.get("seq"), hashlib.sha256(line).hexdigest()
            records.append(record)
    return records, faults


def bounded_namespace(home, jobs):
    """As root: runs this program again, in a pid and mount namespace and in control groups that bound it."""
    memory, bounds, groups = str((1 << 30) + jobs * (128 << 20)), [], "/sys/fs/cgroup"
    files = ["pids/{}/pids.max", "memory/{}/memory.limit_in_bytes"]
    if os.path.exists(groups + "/cgroup.controllers"):
        files = ["{}/pids.max", "{}/memory.max"]
    try:
        for file, value in zip(files, (str(PIDS), memory)):
            path = os.path.join(groups, file.format(f"torture-{os.getpid()}"))
            try:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                bounds.append(os.path.dirname(path))
                with open(path, "w") as f:
                    f.write(value)
            except OSError as e:
                print(f"torture: warning: not bounded: {e}", file=sys.stderr)

        def enter():
            for group in bounds:
                with open(group + "/cgroup.procs", "w") as f:
                    f.write(str(os.getpid()))

        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", sys.executable, *sys.argv]
        return subprocess.run(command, env=dict(os.environ, **{INSIDE: home}), preexec_fn=enter).returncode
    finally:
        for group in bounds:
            for top, _, _ in os.walk(group, topdown=False):
                settle(lambda: not gone(top))


def gone(group):
    with contextlib.suppress(OSError):
        os.rmdir(group)
    return not os.path.exists(group)


def reap():
    """Stays as the first process of the pid namespace and reaps orphans. Returns only in its child, the harness."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    worker = os.fork()
    if worker == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return
    while True:
        pid, status = os.wait()
        if pid == worker:
            os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--py3run", required=True, type=os.path.abspath)
    parser.add_argument("--runs", type=int, default=10000)
    parser.add_argument("--jobs", type=int, default=8, help="runs at a time, at most 32")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--user", help="run py3run as this user (root only)")
    parser.add_argument("--warm", action="store_true", help="with templates")
    parser.add_argument("--policy", action="store_true", help="with a policy: keys, limits and stored scripts")
    parser.add_argument("--py3runctl", type=os.path.abspath, help="for --policy (default: py3runctl beside py3run)")
    parser.add_argument("--keep-going", action="store_true", help="go on after a batch with faults")
    options = parser.parse_args()
    options.jobs = max(1, min(options.jobs, 32))
    options.py3runctl = options.py3runctl or os.path.join(os.path.dirname(options.py3run), "py3runctl")
    if INSIDE in os.environ:
        reap()
        return Torture(os.environ[INSIDE], options).main()
    if options.user and os.geteuid() != 0:
        parser.error("--user needs root")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    home = tempfile.mkdtemp(prefix="torture-")
    os.chmod(home, 0o755)
    try:
        if os.geteuid() == 0:
            return bounded_namespace(home, options.jobs)
        # Without a control group: a limit on all tasks of this user together.
        hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
        resource.setrlimit(resource.RLIMIT_NPROC, (PIDS if hard < 0 else min(PIDS, hard), hard))
        return Torture(home, options).main()
    except KeyboardInterrupt:
        return 130
    finally:
        remove(home)


if __name__ == "__main__":
    sys.exit(main())
