# Asked of every candidate interpreter, once: what it is, and the runtime in its own byte code. It
# is not a module of the runtime. The sources come on standard input, one after the other, and as
# arguments MOMENT NAME LENGTH of each: it is loaded at the start of every run, later or in a
# template.
#
# The byte code is: two lengths of 8 digits; the modules of the start, marshalled as a dictionary by
# name, in which a later module has the place of its own code; the later modules; those of a
# template, as a dictionary again.
import sys, marshal, binascii
try:
    implementation = sys.implementation.name
    text, start, later, template = sys.stdin.buffer.read(), {}, b"", {}
    for moment, name, size in zip(*[iter(sys.argv[1:])] * 3):
        code, text = compile(text[:int(size)], "<py3run %s>" % name, "exec", 0, True, 2), text[int(size):]
        if moment == "later":  # each is read by itself: what most runs do not need is not even made into objects
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
