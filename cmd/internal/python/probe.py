# Asked of every candidate interpreter, once: what it is, and the bootstrap in its own byte code. The sources come on
# standard input, their lengths as arguments.
import sys, marshal, binascii
try:
    implementation = sys.implementation.name
    hot, cold = int(sys.argv[1]), int(sys.argv[2])
    text = sys.stdin.buffer.read()
    cold = marshal.dumps(compile(text[hot:hot + cold], "<py3run report>", "exec", 0, True, 2))
    hot = compile(text[:hot], "<py3run>", "exec", 0, True, 2)
    blob = binascii.b2a_base64(marshal.dumps((hot, cold)), newline=False).decode()
except Exception as e:
    implementation, blob = getattr(getattr(sys, "implementation", None), "name", "unknown"), ""
prefixes = "\x1f".join(sorted({sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}))
print("py3run-probe\n%s\n%s\n%s\n%s\n%s\n%s\n%s" % (implementation, ".".join(map(str, sys.version_info[:3])), sys.executable,
      sys.platform, " ".join(sys.version.split("\n")), prefixes, blob))
