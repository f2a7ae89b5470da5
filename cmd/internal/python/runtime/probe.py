# Every candidate interpreter runs this once, and says what it is, with the runtime in its own byte
# code. This is not a module of the runtime. Standard input has the sources, one after the other.
# The arguments are MOMENT NAME LENGTH of each; the moment is start, later or template (runtime.go).
#
# The byte code consists of
#
#   two lengths, 8 digits each   of the next two parts
#   the modules of the start     a dictionary by name, marshalled; of a later module it has the place
#   the later modules            each marshalled by itself
#   the modules of a template    a dictionary by name, marshalled
import sys, marshal, binascii
try:
    implementation = sys.implementation.name
    text, start, later, template = sys.stdin.buffer.read(), {}, b"", {}
    for moment, name, size in zip(*[iter(sys.argv[1:])] * 3):
        code, text = compile(text[:int(size)], "<py3run %s>" % name, "exec", 0, True, 2), text[int(size):]
        if moment == "later":  # by itself: a run only makes objects of what it needs
            code = marshal.dumps(code)
            start[name] = len(later), len(later) + len(code)
            later += code
        else:
            (start if moment == "start" else template)[name] = code
    start = marshal.dumps(start)
    code = b"%8d%8d" % (len(start), len(later)) + start + later + marshal.dumps(template)
    blob = binascii.b2a_base64(code, newline=False).decode()
except Exception:
    implementation, blob = getattr(getattr(sys, "implementation", None), "name", "unknown"), ""
prefixes = "\x1f".join(sorted({sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}))
print("py3run-probe\n%s\n%s\n%s\n%s\n%s\n%s\n%s" % (implementation, ".".join(map(str, sys.version_info[:3])), sys.executable,
      sys.platform, " ".join(sys.version.split("\n")), prefixes, blob))
