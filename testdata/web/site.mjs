// A host of its own for the pages: a log, a policy with keys, stored scripts, some runs, and py3runctl serve.
import { createHash, randomBytes } from "node:crypto";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

// An API key has a checksum: CRC-32 in six digits of base 62.
function checksum(text) {
  let crc = ~0;
  for (const byte of Buffer.from(text)) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  let rest = ~crc >>> 0, out = "";
  for (let i = 0; i < 6; i++) {
    out = digits[rest % 62] + out;
    rest = Math.floor(rest / 62);
  }
  return out;
}

function newKey() {
  const id = [...randomBytes(8)].map((b) => "abcdefghijkmnpqrstuvwxyz23456789"[b % 32]).join("");
  const text = `p3r_${id}_${randomBytes(32).toString("base64url")}`;
  return { id, text: `${text}_${checksum(text)}` };
}

const users = {
  alice: 'roles = ["python3-executor"]', bob: 'roles = ["python3-executor"]\ngroups = ["plant"]',
  audrey: 'roles = ["auditor"]', admin: 'roles = ["script-admin", "python3-executor"]',
  gone: 'roles = ["python3-executor"]\ndisabled = true',
};

export class Site {
  constructor({ py3run, py3runctl, synthlog, runs, home }) {
    Object.assign(this, { py3run: resolve(py3run), py3runctl: resolve(py3runctl), home, keys: {} });
    this.log = join(home, "log");
    const config = join(home, "config/py3run");
    mkdirSync(config, { recursive: true, mode: 0o700 });
    this.env = {
      PATH: process.env.PATH, HOME: home, XDG_CONFIG_HOME: join(home, "config"), XDG_STATE_HOME: join(home, "state"), XDG_CACHE_HOME: join(home, "cache"),
      PY3RUN_SECURITY_AUDIT_DIR: this.log, PY3RUN_CONFIG: join(config, "config.toml"), TZ: "Europe/Berlin", LANG: "C.UTF-8",
    };
    writeFileSync(this.env.PY3RUN_CONFIG, "# The configuration of this host.\n[security.audit]\nlog-code = true\n", { mode: 0o600 });
    let policy = "version = 1\n[group.plant]\n";
    for (const [name, about] of Object.entries(users)) {
      const key = newKey();
      this.keys[name] = key.text;
      policy += `[user.${name}]\n${about}\n[key.${key.id}]\nuser = "${name}"\nsha256 = "${createHash("sha256").update(key.text).digest("hex")}"\ncreated = 2026-01-01T00:00:00Z\n`;
    }
    writeFileSync(join(config, "policy.toml"), policy, { mode: 0o600 });
    process.stdout.write(execFileSync(synthlog, ["--runs", String(runs), "--days", "60", "--out", this.log], { encoding: "utf8" }));
    this.fill();
  }

  // ctl asks py3runctl, as a user by its key or as the owner of the log.
  ctl(args, user) {
    const env = { ...this.env };
    if (user) {
      env.PY3RUN_API_KEY_FILE = join(this.home, `${user}.key`);
      writeFileSync(env.PY3RUN_API_KEY_FILE, this.keys[user], { mode: 0o600 });
    }
    return execFileSync(this.py3runctl, args, { env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], maxBuffer: 1 << 28 });
  }

  run(args, input = "") {
    try {
      return execFileSync(this.py3run, args, { cwd: this.home, env: this.env, encoding: "utf8", input, stdio: ["pipe", "pipe", "pipe"] });
    } catch (e) { // a run that fails is wanted, too
      return e.stdout;
    }
  }

  // fill adds what the synthetic log cannot have: code that was kept, stored scripts, a run that is alive.
  fill() {
    const file = join(this.home, "tank.py");
    for (const [n, text] of ["level = 3\nprint('level', level)\n", "level = 4\nlimit = 10\nprint('level', level)\nassert level < limit\n", "level = 5\nlimit = 10\n# <b>checked</b> by hand\nprint('level', level, 'of', limit)\nassert level < limit\n"].entries()) {
      writeFileSync(file, text);
      this.ctl(["script", "save", "plant/tank", "--description", `Level of the tank, attempt ${n + 1}`, file]);
    }
    writeFileSync(file, "print(1)\n");
    this.ctl(["script", "save", "office/report", file]);
    this.run(["run", "--script", "plant/tank"]);
    this.run(["run", "-c", "def inner(x):\n    return 1 / x\n\n\ndef outer():\n    return inner(0)\n\n\nouter()\n"]);
    this.run(["run", "--timeout-seconds", "1", "-c", "while True:\n    pass\n"]);
    this.run(["run", "-c", "import os\nopen('a.txt', 'w').write('x' * 100)\nprint(os.listdir('.'))\n"]);
    this.alive = spawn(this.py3run, ["run", "-c", "import time\ntime.sleep(3600)\n"], { env: this.env, stdio: "ignore" });
    try {
      this.ctl(["alerts", "--everything"]);
    } catch { /* it says by its exit code that there are some */ }
  }

  // serve starts the pages, and returns the address that signs in.
  async serve() {
    this.server = spawn(this.py3runctl, ["serve", "--idle", "0", "--run-by-key"], { env: this.env, stdio: ["ignore", "pipe", "pipe"] });
    this.said = "";
    this.server.stderr.on("data", (text) => (this.said += text));
    const address = await new Promise((resolve, reject) => {
      let text = "";
      this.server.stdout.on("data", (piece) => (text += piece).includes("\n") && resolve(text.trim()));
      this.server.on("exit", (code) => reject(new Error(`py3runctl serve has ended: ${code} ${this.said}`)));
    });
    this.origin = new URL(address).origin;
    return address;
  }

  // restart serves again: the old cookies are worth nothing then.
  async stop() {
    if (this.server) {
      this.server.removeAllListeners("exit");
      const ended = new Promise((resolve) => this.server.on("exit", (code) => resolve(code)));
      this.server.kill("SIGTERM");
      this.code = await ended;
    }
  }

  end() {
    this.alive?.kill("SIGTERM");
    this.server?.kill("SIGKILL");
    rmSync(this.home, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 }); // its processes are just ending
  }
}

export const axe = readFileSync(new URL("./node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
