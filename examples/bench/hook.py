#!/usr/bin/env python3
"""What the audit hook costs: `import pandas` (or any statement) in an interpreter with and without py3run's runtime.

    hook.py [--python PYTHON] [--runs N] [--code 'import pandas']

Runs come in pairs, so that both have the same noise. If valgrind is installed, callgrind also counts the
instructions, which do not depend on noise. The runtime runs here as py3run starts it, but without a sandbox.
"""
import argparse, base64, marshal, mmap, os, re, shutil, statistics, struct, subprocess, sys, tempfile, time

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "cmd", "internal", "python")
FIRST = 64  # the first of the runtime's descriptors


def read(name):
    with open(os.path.join(SOURCES, name), encoding="utf-8") as f:
        return f.read()


def blob(python):
    """The byte code of the runtime, from the modules that runtime.go lists."""
    moments = {"atStart": "start", "later": "later", "inTemplate": "template"}
    arguments, sources = [], b""
    for moment, name in re.findall(r'\{(\w+), "(\w+)", \w+Source\}', read("runtime.go")):
        source = read(os.path.join("runtime", name + ".py")).encode()
        arguments += moments[moment], name, str(len(source))
        sources += source
    out = subprocess.run([python, "-I", "-S", "-X", "utf8", "-c", read("runtime/probe.py"), *arguments], input=sources, stdout=subprocess.PIPE, check=True).stdout.decode()
    return base64.b64decode(out.split("\n")[7])


def stub():
    """What the interpreter is started with: taken from the launcher's source, so that it is the same."""
    source = read("runtime.go")
    begin, end = re.search(r'startStub = "(.*)" \+ executeStub \+ "(.*)"', source).groups()
    return begin % FIRST + re.search(r"executeStub = `(.*)`", source)[1] + end


def job(code, hooked):
    """Opens the descriptors that the runtime finds, with the layout of protocol.go."""
    flagged = dict.fromkeys(["subprocess", "os", "ctypes", "multiprocessing"])
    request = marshal.dumps(dict(command="execute", code=code, path="/nonexistent/main.py", shown="main.py", argv=["main.py"], import_path=[],
                                 variables={}, module="", function="", args=None, kwargs={}, line=0, column=0, result_format="plain",
                                 result_from="none", flagged=flagged, lazy_site=False, show=True, kept=False, fresh=False, stdin=False, reads=False, unread=False, most=1 << 20), 2)
    code_file, memory = os.memfd_create("runtime"), os.memfd_create("memory", os.MFD_ALLOW_SEALING)
    os.write(code_file, hooked)
    os.ftruncate(memory, (4 << 20) + len(request))
    view = mmap.mmap(memory, 0)
    view[1 << 20:(1 << 20) + len(request)] = request
    view[20:24] = struct.pack("I", len(request))
    gate, release = os.pipe()
    os.write(release, b"\1")
    os.close(release)
    children, dump = os.open(os.devnull, os.O_WRONLY), os.open(os.devnull, os.O_WRONLY)
    for i, fd in enumerate((code_file, memory, children, gate, dump)):
        os.dup2(fd, FIRST + i)
        os.close(fd)


def run(argv, code=None, hooked=None):
    if hooked:
        job(code, hooked)
    begin = time.perf_counter()
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)])
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - begin
    if hooked:
        os.closerange(FIRST, FIRST + 5)
    if status:
        sys.exit(f"{argv[0]} ended with status {status}")
    return wall, usage.ru_utime + usage.ru_stime


def instructions(argv, code=None, hooked=None):
    with tempfile.TemporaryDirectory() as d:
        valgrind = [shutil.which("valgrind"), "--tool=callgrind", f"--callgrind-out-file={d}/out", f"--log-file={d}/log", *argv]
        run(valgrind, code, hooked)
        with open(f"{d}/out") as f:
            return int(re.search(r"^(?:summary|totals): (\d+)", f.read(), re.M)[1])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--python", default=sys.executable)
    p.add_argument("--runs", type=int, default=15)
    p.add_argument("--code", default="import pandas")
    o = p.parse_args()
    hooked = blob(o.python)
    bare = [o.python, "-I", "-X", "utf8", "-c", o.code]
    with_hook = [o.python, "-I", "-X", "utf8", "-c", stub()]
    pairs = [(run(bare), run(with_hook, o.code, hooked)) for _ in range(o.runs)]
    for name, i in (("wall clock", 0), ("user + system", 1)):
        ratios = [b[i] / a[i] for a, b in pairs]
        least = min(b[i] for _, b in pairs) / min(a[i] for a, _ in pairs)
        print(f"{o.code}: {name}: median of paired ratios {statistics.median(ratios):.3f}, ratio of minima {least:.3f}")
    if shutil.which("valgrind"):
        a, b = instructions(bare), instructions(with_hook, o.code, hooked)
        empty = instructions([*bare[:-1], "pass"]), instructions(with_hook, "pass", hooked)
        print(f"{o.code}: instructions {a:,} without, {b:,} with: {b / a:.4f}")
        print(f"  of which the start of the runtime is {empty[1] - empty[0]:,}; the hook alone: {(b - (empty[1] - empty[0])) / a:.4f}")


if __name__ == "__main__":
    main()
