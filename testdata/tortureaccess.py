"""A policy with users, keys, limits and stored scripts for torture.py, and what has to hold of them afterwards.

Every run comes from another caller: most may run what they ask for, some reach a limit of their user, others are
refused. Whatever becomes of the launchers, no run counts as under way once all are dead, each refusal that a caller
got is in the log, alone or in a summary, and no key stands in a file, a command line or an environment.
"""
import contextlib, json, os, random, string, subprocess, threading, time, zlib

# name: weight, and the statuses that a caller may get beside those of its job; None: denied is the only one
CALLERS = {
    "key": (14, "rate_limited"), "key in a file": (6, "rate_limited"), "crowded": (12, "rate_limited"), "often": (6, "rate_limited"), "gateway": (6, "rate_limited"), "claimed": (4, ""),
    "stored": (10, "rate_limited"), "hidden script": (2, None), "missing script": (2, None),
    "wrong secret": (3, None), "unknown key": (2, None), "no key": (1, None), "revoked": (2, None), "disabled": (2, None), "without role": (2, None), "may not assert": (2, None),
}
USERS = {"alice": ["--role", "python3-executor"], "bob": ["--role", "python3-executor", "--limit", "security.rate-limit.concurrent-per-user=2"],
         "often": ["--role", "python3-executor", "--limit", "security.rate-limit.per-user-per-minute=5"],
         "gateway": ["--role", "python3-executor", "--limit", "security.rate-limit.concurrent-per-user=3"], "gone": ["--role", "python3-executor"], "idle": []}
REFUSED = ("denied", "rate_limited")
STORED = "import time\nopen(mark, 'w').close()\ntime.sleep(0.05)\nresult = 1\n"
SUMMARY = 60 + 10 + 15  # seconds: a window of refusals, a claim by a writer that was killed, and patience


class Access:
    def __init__(self, torture):
        self.torture, self.home = torture, torture.home
        self.ctl_binary = torture.home + "/py3runctl"
        self.keys, self.watching = {}, threading.Event()
        for name in ("config", "config/py3run", "keys"):
            os.mkdir(f"{self.home}/{name}", 0o700)
            os.chown(f"{self.home}/{name}", torture.uid, torture.gid)
        torture.env["XDG_CONFIG_HOME"] = self.home + "/config"
        self.write("config/py3run/policy.toml", "version = 1\n")
        for user, options in USERS.items():
            self.ctl("user", "add", user, *options)
        for name, user in {"alice": "alice", "bob": "bob", "often": "often", "gateway": "gateway", "gone": "gone", "idle": "idle", "revoked": "alice"}.items():
            self.ctl("key", "create", user, "--out", f"{self.home}/keys/{name}", *(["--may-assert", "alice"] if name == "gateway" else []))
            with open(f"{self.home}/keys/{name}") as f:
                self.keys[name] = f.read().strip()
        self.ctl("key", "revoke", self.keys["revoked"][4:12])
        self.ctl("user", "disable", "gone")
        self.keys["wrong"] = self.made_up(self.keys["alice"][:13])
        self.keys["unknown"] = self.made_up("p3r_" + "z" * 8 + "_")
        self.write("keys/stored.py", STORED)
        for script in ("tank/open", "tank/hidden"):
            self.ctl("script", "save", script, f"{self.home}/keys/stored.py")
        self.ctl("script", "public", "tank/open")
        self.secrets = [key[13:56].encode() for key in self.keys.values()]

    def write(self, name, text):
        path = f"{self.home}/{name}"
        with open(path, "w") as f:
            f.write(text)
        os.chmod(path, 0o600)
        os.chown(path, self.torture.uid, self.torture.gid)

    @staticmethod
    def made_up(start):
        """Returns a key with a checksum that is right, which nobody has made."""
        text = start + "".join(random.choices(string.ascii_letters + string.digits, k=42)) + "A"
        number, digits = zlib.crc32(text.encode()), ""
        for _ in range(6):
            number, digit = divmod(number, 62)
            digits = (string.digits + string.ascii_uppercase + string.ascii_lowercase)[digit] + digits
        return f"{text}_{digits}"

    def ctl(self, *args):
        command = self.torture.as_user([self.ctl_binary, *args])
        done = subprocess.run(command, env=self.torture.env, cwd=self.home, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"py3runctl {' '.join(args)}: {done.stderr}")
        return done.stdout

    # One run.

    def ask(self, rng, request, env, mark):
        """Makes a request that of some caller, and returns which."""
        caller = rng.choices(list(CALLERS), [weight for weight, _ in CALLERS.values()])[0]
        key = {"crowded": "bob", "often": "often", "gateway": "gateway", "wrong secret": "wrong", "unknown key": "unknown", "revoked": "revoked", "disabled": "gone",
               "without role": "idle", "claimed": "", "no key": ""}.get(caller, "alice")
        if caller == "gateway":
            request["user"] = "alice"
        elif caller == "may not assert":
            request["user"] = "bob"
        elif caller == "claimed":
            request["user"] = f"tina-{rng.randrange(3)}"
        elif caller == "no key":
            request["api_key"] = "p3r_none"
        elif caller in ("stored", "hidden script", "missing script"):
            request["script"] = {"stored": "tank/open", "hidden script": "tank/hidden", "missing script": "tank/none"}[caller]
            request["variables"] = {"mark": mark}
            del request["code"]
        if caller == "key in a file":
            env["PY3RUN_API_KEY_FILE"] = f"{self.home}/keys/{key}"
        elif key:
            request["api_key"] = self.keys[key]
        return caller

    def usual(self, caller, usual):
        """Returns the statuses that a run of this caller may have, of those that its job may have."""
        more = CALLERS[caller][1]
        if more is None:
            return {"denied"} | (usual & {"cancelled"})
        if caller == "stored":
            usual = {"ok"} | (usual & {"cancelled"})
        return usual | set(more.split())

    def leaks(self, text):
        return any(secret in text for secret in self.secrets)

    # While runs are under way.

    def watch(self):
        while not self.watching.wait(0.02):
            for pid in filter(str.isdigit, os.listdir("/proc")):
                for name in ("cmdline", "environ"):
                    with contextlib.suppress(OSError), open(f"/proc/{pid}/{name}", "rb") as f:
                        if self.leaks(f.read()):
                            self.torture.fault("leaked keys", f"/proc/PID/{name} of {open(f'/proc/{pid}/comm').read().strip()}")

    # The counts. No job of ours runs now.

    def count(self, batch, settle):
        def running():
            users = map(json.loads, self.ctl("limits", "show", "--format", "json").splitlines())
            return {user["user"]: user["running"] for user in users if user.get("running")}
        for user, number in settle(running).items():
            self.torture.fault("left slots", f"after batch {batch}: {number} runs of {user} count as under way")
        for top, dirs, files in os.walk(self.home):
            if top == self.home:
                dirs.remove("keys")
            for name in files:
                with contextlib.suppress(OSError), open(os.path.join(top, name), "rb") as f:
                    if os.path.isfile(f.name) and not os.path.islink(f.name) and self.leaks(f.read()):
                        self.torture.fault("leaked keys", f"after batch {batch}: {os.path.relpath(f.name, self.home)}")

    def check_refusals(self, runs, chain):
        """Waits until the summaries are due, and compares them with what callers were told."""
        told = sum(run.status in REFUSED for run in runs)
        deadline = time.monotonic() + SUMMARY
        while True:
            self.ctl("limits", "show")
            records, _ = chain(self.home + "/audit")
            denied = [r.get("refusals", {"count": 1})["count"] for r in records if r.get("event", {}).get("action") == "execution-denied"]
            if sum(denied) >= told:
                return sum(denied)
            if time.monotonic() > deadline:
                self.torture.fault("refusals", f"{told} callers were refused, and the log tells of {sum(denied)}")
                return sum(denied)
            time.sleep(1)
