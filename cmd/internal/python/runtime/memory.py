# The memory that this process shares with the launcher. protocol.go draws it.

import marshal, mmap, posix, sys

from .constants import EVENTS_SIZE, TEXT_OFFSET, WORD_REQUEST

try:
    from fcntl import fcntl
except ImportError:
    fcntl = None



def keep_reserve():
    """Nobody uses the reserve: it is freed for the reply, since the code may have used up all memory."""
    global reserve
    reserve = mmap.mmap(-1, 4 << 20, mmap.MAP_PRIVATE | 0x20)  # MAP_ANONYMOUS


keep_reserve()


def attach(fd):
    """Maps the memory, and closes its descriptor."""
    global ring, space, words, write, process
    extra = {"trackfd": False} if sys.version_info >= (3, 13) else {}  # older versions keep a copy of the descriptor
    ring = mmap.mmap(fd, EVENTS_SIZE, **extra)
    space = mmap.mmap(fd, 0, offset=EVENTS_SIZE, **extra)
    try:  # the copy has a low number, and the code may write to it: seal the memory against write(2)
        fcntl(fd, 1033, 0x10)  # F_ADD_SEALS, F_SEAL_FUTURE_WRITE
    except Exception:
        pass
    words, write = memoryview(ring).cast("I"), ring.write
    ring.seek(TEXT_OFFSET)
    posix.close(fd)
    process = posix.getpid()  # a forked child must not reply


def request():
    """A new copy of the request: the code may have changed the values of an earlier one."""
    return marshal.loads(memoryview(space)[:words[WORD_REQUEST]])
