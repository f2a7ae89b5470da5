# The system calls that the launcher has prepared as lists, and functions of the C library that
# Python does not have.

import ctypes, posix, sys

from .constants import (
    LIST_CALL, LIST_COUNT, LIST_HEAD, LIST_RELOCATIONS, LIST_RIGHTS, LIST_STEP_SHIFT, MODE_ADD_RULE, MODE_IF_PREV, MODE_OPTIONAL, MODE_QUIET,
    MODE_TO_SEND, MODE_WANT_ONE, MODE_WITH_PREV, MSG_FAILED, MSG_MISSING)
from .messages import tell

libc = ctypes.CDLL(None, use_errno=True)
call = libc.syscall
call.restype, call.argtypes = ctypes.c_long, [ctypes.c_long] * 7
errno, poll, getrusage, exit = ctypes.get_errno, libc.poll, libc.getrusage, libc.exit
prctl, kill, waitpid = libc.prctl, libc.kill, libc.waitpid
madvise, page = libc.madvise, posix.sysconf("SC_PAGESIZE")
madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
Polls, Usage = ctypes.c_short * 12, ctypes.c_char * 144  # three struct pollfd; one struct rusage

O_PATH = 0o12000000  # with O_CLOEXEC
RIGHTS_DESCRIPTOR = 16  # its place in the control message: after the header
RULE_PARENT = 8  # its place in struct landlock_path_beneath_attr: after the access rights


class Failed(Exception):
    """A system call that had to succeed did not. The launcher has been told."""


def raise_limit(resource):
    """Raises a soft limit to the hard limit."""
    limit = (ctypes.c_ulong * 2)()
    libc.getrlimit(resource, limit)
    limit[0] = limit[1]
    libc.setrlimit(resource, limit)


def load(syscall_list):
    """The lists of a syscall list, with calls that are ready to be made, and the memory that they need."""
    memory = bytearray(syscall_list)
    base = ctypes.addressof((ctypes.c_char * len(memory)).from_buffer(memory))
    words = memoryview(memory).cast("B").cast("Q")
    at = LIST_HEAD + words[LIST_COUNT]
    calls = []
    for size in words[LIST_HEAD:at]:
        ops = []
        for _ in range(size):
            nr, *args, mode, pointers = words[at:at + LIST_CALL]
            args = [base + a if pointers >> i & 1 else a - (1 << 64) if a >> 63 else a for i, a in enumerate(args)]
            ops.append((nr, args, mode & (1 << LIST_STEP_SHIFT) - 1, mode >> LIST_STEP_SHIFT))
            at += LIST_CALL
        calls.append(ops)
    for i in range(words[LIST_RELOCATIONS]):
        words[words[at + i] // 8] += base
    return calls, (memory, base, base + words[LIST_RIGHTS])


def at_address(address, size):
    return (ctypes.c_char * size).from_address(address)


def run(ops, memory, to):
    """Makes calls as sandbox/childinit_linux.go does, and returns the last result. Failures are reported on
    the descriptor to."""
    prev, failed = 0, False
    for nr, args, mode, step in ops:
        if failed and mode & MODE_IF_PREV:
            continue
        if mode & MODE_ADD_RULE:
            add_rule(nr, args, step, to)
            continue
        if mode & MODE_WITH_PREV:
            args = [prev, *args[1:]]
        prev = call(nr, *args)
        failed = prev < 0 or mode & MODE_WANT_ONE and prev != 1
        if not failed:
            if mode & MODE_TO_SEND:
                at_address(memory[2] + RIGHTS_DESCRIPTOR, 4)[:] = prev.to_bytes(4, sys.byteorder)
            continue
        if mode & MODE_QUIET:
            continue
        tell(to, MSG_MISSING if mode & MODE_OPTIONAL else MSG_FAILED, step, errno())
        if not mode & MODE_OPTIONAL:
            raise Failed
    return prev


def add_rule(nr, args, step, to):
    """Adds a rule to the Landlock ruleset. A place that does not exist needs none."""
    ruleset, kind, attr, flags, path, of_files = args
    try:
        fd = posix.open(ctypes.string_at(path), O_PATH)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as e:
        tell(to, MSG_FAILED, step, e.errno)
        raise Failed
    at_address(attr + RULE_PARENT, 4)[:] = fd.to_bytes(4, sys.byteorder)
    if call(nr, ruleset, kind, attr, flags, 0, 0) < 0:
        access = int.from_bytes(at_address(attr, 8).raw, sys.byteorder) & of_files
        at_address(attr, 8)[:] = access.to_bytes(8, sys.byteorder)  # a file does not have the rights of a directory
        if call(nr, ruleset, kind, attr, flags, 0, 0) < 0:
            tell(to, MSG_FAILED, step, errno())
            raise Failed
    posix.close(fd)
