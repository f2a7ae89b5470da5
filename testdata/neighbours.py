#!/usr/bin/env python3
"""Lets runs of one user attack each other and the files that later runs depend on, and counts what they reach.

    testdata/neighbours.py --py3run BIN [--seconds 60] [--jobs 8] [--python /usr/bin/python3] [--user nobody]

Half of the runs are victims. Each writes a secret into its TMPDIR, checks again and again that its files are
unchanged, and starts workers that read the file with the code. The others are attackers. They rename, remove,
replace and write every path of py3run that they can name.

Every run must end with the result of its own code. Afterwards the log must be whole and have every run, and
configuration, caches, log and binary must be what they were.

As root the program moves into a pid and mount namespace with a small /tmp of its own. --user (root only) makes
py3run run as that user. Needs Python 3.8 or newer; as root also unshare, mount and setpriv (util-linux).
Exit status: 0 the runs reached nothing, 1 they reached something, or the first run failed.
"""
import argparse, concurrent.futures, hashlib, json, os, pwd, random, shutil, subprocess, sys, tempfile, time

VICTIM = '''
import multiprocessing, os, sys, time
secret = SECRET
own = os.environ["TMPDIR"]
file = globals()["__file__"]
def look():
    return open(os.path.join(own, "secret")).read(), sorted(os.listdir(own)), open(file).read().count(secret)
if __name__ == "__mp_main__":
    print(secret)
if __name__ == "__main__":
    open(os.path.join(own, "secret"), "w").write(secret)
    wrong, end, n = [], time.monotonic() + LASTS, 0
    while time.monotonic() < end:
        n += 1
        seen = look()
        if seen != (secret, ["secret"], 1):
            wrong.append(repr(seen)[:200])
            break
        time.sleep(0.005)
    if SPAWN:
        p = multiprocessing.get_context("spawn").Process(target=look)
        p.start(); p.join()
        if p.exitcode: wrong.append("worker: %s" % p.exitcode)
    result = [secret, wrong]
'''

ATTACKER = '''
import ctypes, glob, os, shutil, socket, sys
secret, targets = SECRET, TARGETS
libc = ctypes.CDLL(None, use_errno=True)
reached = []
def attempt(what, do, *args):
    try:
        do(*args)
    except (OSError, shutil.Error):
        return False
    return True
own = os.environ["TMPDIR"]
mine = lambda path: os.path.abspath(path) == own or path.startswith(own + "/") or os.path.dirname(path) == os.path.dirname(own) and os.path.basename(path).startswith(os.path.basename(own))
places = {os.path.dirname(own), *glob.glob("/tmp/py3run-*"), *glob.glob("/tmp/.py3run-*")}
for place in places:
    names = []
    try:
        names = os.listdir(place)
    except OSError:
        pass
    for name in names:
        path = os.path.join(place, name)
        if mine(path):
            continue
        reached.append("sees " + path)
        for do in os.rmdir, os.unlink:
            attempt("remove", do, path)
        attempt("rename", os.rename, path, path + ".moved")
    for do, args in ((os.rename, (place, place + ".moved")), (os.rmdir, (place,)), (os.symlink, ("/etc", place + "/link"))):
        if attempt("place", do, *args) and do in (os.rename, os.rmdir):
            reached.append("%s %s" % (do.__name__, args[0]))
# the paths that later runs depend on, and every directory above each
for path in targets:
    way = path
    while way not in ("/", TOP):
        if os.path.lexists(way):
            if attempt("rename", os.rename, way, way + ".moved"):
                reached.append("renamed " + way)
                attempt("back", os.rename, way + ".moved", way)
            if hasattr(libc, "renameat2"):
                os.path.isdir(way) and attempt("mkdir", os.mkdir, way + ".other")
                if os.path.isdir(way + ".other") and libc.renameat2(-100, way.encode(), -100, (way + ".other").encode(), 2) == 0:
                    reached.append("exchanged " + way)
                    libc.renameat2(-100, way.encode(), -100, (way + ".other").encode(), 2)
                attempt("rmdir", os.rmdir, way + ".other")
        way = os.path.dirname(way)
    for flags in (os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_CREAT, os.O_RDWR):
        if os.path.isfile(path):
            try:
                fd = os.open(path, flags)
                if os.write(fd, b"") == 0 and not os.path.samestat(os.fstat(fd), os.stat("/dev/null")):
                    reached.append("opens %s to write" % path)
                os.close(fd)
            except OSError:
                pass
    if os.path.isdir(path):
        for name in ("config.toml", "policy.toml", "audit.jsonl", "python-0123456789abcdef", "x.sock", ".lock"):
            if attempt("plant", lambda: open(os.path.join(path, name), "a").write("audit = 1")):
                reached.append("writes %s/%s" % (path, name))
        try:
            for name in os.listdir(path):
                attempt("unlink", os.unlink, os.path.join(path, name)) and reached.append("unlinks %s/%s" % (path, name))
        except OSError:
            pass
        attempt("chmod", os.chmod, path, 0o777)
        attempt("rmtree", shutil.rmtree, path)
    elif os.path.lexists(path):
        attempt("unlink", os.unlink, path) and reached.append("unlinks " + path)
    attempt("link", os.link, path, os.path.join(own, "link"))
result = [secret, reached]
'''


class World:
    """A home directory for the attacks, with all files that py3run keeps in it."""

    def __init__(self, args):
        self.args = args
        self.top = tempfile.mkdtemp(prefix="neighbours-")
        os.chmod(self.top, 0o755)
        self.home = os.path.join(self.top, "home")
        os.mkdir(self.home, 0o700)
        self.binary = os.path.join(self.home, "bin", "py3run")  # in a place where its user could replace it
        os.mkdir(os.path.dirname(self.binary))
        shutil.copy(args.py3run, self.binary)
        self.ids = pwd.getpwnam(args.user) if args.user else None
        config = os.path.join(self.home, ".config", "py3run")
        os.makedirs(config, 0o700)
        with open(os.path.join(config, "config.toml"), "w") as f:
            f.write("[security]\nmax-processes = 60\n")
        if self.ids:
            for root, dirs, files in os.walk(self.home):
                for path in [root, *(os.path.join(root, n) for n in files)]:
                    os.chown(path, self.ids.pw_uid, self.ids.pw_gid)
        self.audit = os.path.join(self.home, ".local", "state", "py3run", "audit")
        self.env = {"PATH": "/usr/bin:/bin", "HOME": self.home, "LANG": "C.UTF-8", "PY3RUN_PYTHON_INTERPRETER": args.python, "PY3RUN_SECURITY_AUDIT_DIR": self.audit,
                    "XDG_CACHE_HOME": os.path.join(self.home, ".cache"), "XDG_RUNTIME_DIR": os.path.join(self.home, "run")}
        for limit in "PER_USER_PER_MINUTE", "PER_USER_PER_HOUR", "GLOBAL_PER_MINUTE", "CONCURRENT_PER_USER":  # two users, as often as they can
            self.env["PY3RUN_SECURITY_RATE_LIMIT_" + limit] = "0"
        self.env.update(PY3RUN_WARM_ENABLED=os.environ.get("NEIGHBOURS_WARM", "false"))
        self.targets = [config, os.path.join(config, "config.toml"), self.audit, os.path.join(self.home, ".cache", "py3run"),
                        os.path.join(self.home, "run", "py3run"), self.binary]

    def run(self, code, name, **values):
        for key, value in values.items():
            code = code.replace(key, repr(value))
        command = [self.binary, "exec", "--audit-line=off"]
        if self.ids:
            command = ["setpriv", f"--reuid={self.ids.pw_uid}", f"--regid={self.ids.pw_gid}", "--clear-groups", *command]
        request = json.dumps({"code": code, "user": name, "limits": {"timeout_seconds": 60}})
        done = subprocess.run(command, input=request.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env, timeout=120)
        try:
            return json.loads(done.stdout)
        except ValueError:
            return {"status": "no result", "error": (done.stdout + done.stderr).decode(errors="replace")[:500]}

    def snapshot(self):
        """Returns the state of the files that must not change. The log and the caches may grow: only their inodes count."""
        seen = {}
        for path in [self.binary, *self.targets[:2]]:
            st = os.stat(path)
            seen[path] = (st.st_ino, st.st_mode, hashlib.sha256(open(path, "rb").read()).hexdigest() if os.path.isfile(path) else sorted(os.listdir(path)))
        for path in self.targets:
            if os.path.isdir(path):
                seen["inode of " + path] = os.stat(path).st_ino
        return seen

    def chain(self):
        """Returns the runs in the log with their records, and the faults of its chain."""
        prev, seq, runs, wrong = "0" * 64, 0, {}, []
        names = sorted(n for n in os.listdir(self.audit) if n.startswith("audit-") and n.endswith(".jsonl")) + ["audit.jsonl"]
        for name in names:
            for line in open(os.path.join(self.audit, name), "rb").read().splitlines():
                record = json.loads(line)
                if record["prev"] != prev or record["seq"] != seq + 1:
                    wrong.append(f"chain breaks at {record['seq']}")
                prev, seq = hashlib.sha256(line).hexdigest(), record["seq"]
                runs.setdefault(record.get("run_id"), []).append(record["event"]["action"])
        return runs, wrong


def one(world, n):
    secret = f"secret-{n}-{random.getrandbits(64):016x}"
    if n % 2:
        r = world.run(VICTIM, "victim", SECRET=secret, LASTS=world.args.lasts, SPAWN=n % 4 == 1)
    else:
        r = world.run(ATTACKER, "attacker", SECRET=secret, TARGETS=world.targets, TOP=world.top)
    faults = []
    if r.get("status") != "ok" or r.get("result") != [secret, []]:
        faults.append(f"{'victim' if n % 2 else 'attacker'} {n}: {r.get('status')} {str(r.get('result'))[:300]} {str(r.get('error', ''))[:300]}")
    if missing := [m for m in r.get("isolation", {}).get("missing", ()) if m["name"] in ("private-working-dir", "pinned-paths", "hidden-paths")]:
        faults.append(f"run {n}: {missing}")
    return r.get("run_id"), faults, r.get("isolation", {}).get("warm", False)


def own_namespace():
    if os.geteuid() != 0 or os.environ.get("NEIGHBOURS_INSIDE"):
        return
    script = 'mount -t tmpfs -o size=512m,mode=1777 tmpfs /tmp && exec "$@"'
    copy = tempfile.mkdtemp(prefix="neighbours-", dir="/var/tmp")
    try:
        binary = os.path.join(copy, "py3run")
        shutil.copy(sys.argv[sys.argv.index("--py3run") + 1], binary)
        argv = list(sys.argv)
        argv[argv.index("--py3run") + 1] = binary
        script_copy = os.path.join(copy, "neighbours.py")
        shutil.copy(os.path.abspath(__file__), script_copy)
        argv[0] = script_copy
        done = subprocess.run(["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", script, "sh", sys.executable, *argv], env=dict(os.environ, NEIGHBOURS_INSIDE="1"))
    finally:
        shutil.rmtree(copy)
    sys.exit(done.returncode)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--py3run", required=True)
    parser.add_argument("--python", default="/usr/bin/python3")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--lasts", type=float, default=1.0, help="seconds that a victim looks around")
    parser.add_argument("--user", help="as root: the user that py3run runs as")
    args = parser.parse_args()
    args.py3run = os.path.abspath(args.py3run)
    own_namespace()
    world = World(args)
    faults, ids, n, warm = [], [], 0, 0
    try:
        first = world.run("result = 1", "first")
        if first.get("status") != "ok":
            sys.exit(f"error: the first run: {first}")
        before, end = world.snapshot(), time.monotonic() + args.seconds
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            running = set()
            while running or time.monotonic() < end and len(faults) < 50:
                while len(running) < args.jobs and (time.monotonic() < end or n < 2 * args.jobs):
                    n += 1
                    running.add(pool.submit(one, world, n))
                done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                for d in done:
                    try:
                        run_id, wrong, was_warm = d.result()
                        warm += was_warm
                    except (OSError, subprocess.SubprocessError) as e:
                        run_id, wrong = None, [f"a run could not be had: {e}"]
                    ids.append(run_id)
                    faults += wrong
        if faults:  # the files may be gone, so do not compare them
            return
        after = world.snapshot()
        faults += [f"changed: {k}: {before.get(k)} -> {after.get(k)}" for k in {**before, **after} if before.get(k) != after.get(k)]
        if not warm and os.environ.get("NEIGHBOURS_WARM") == "true":
            faults.append("no run was warm")
        runs, wrong = world.chain()
        faults += wrong + [f"run {i}: records {runs.get(i)}" for i in ids if runs.get(i) != ["execution-start", "execution-end"]]
    finally:
        shutil.rmtree(world.top, ignore_errors=True)
        for fault in faults[:20]:
            print("FAULT", fault)
        print(f"{n} runs, {warm} of them warm, {len(faults)} faults")
        if faults:
            sys.exit(1)


if __name__ == "__main__":
    main()
