# The messages of a template and its workers, and the descriptors that come with them.

import posix, sys, _socket

CMSG_CLOEXEC = 0x40000000  # MSG_CMSG_CLOEXEC
MOST = 32  # descriptors in one message


def receive(socket):
    data, extra, _, _ = socket.recvmsg(1 << 17, _socket.CMSG_SPACE(4 * MOST), CMSG_CLOEXEC)
    fds = []
    for _, _, raw in extra:
        fds += memoryview(raw[:len(raw) // 4 * 4]).cast("i").tolist()
    return data, fds


def tell(to, kind, step, value):
    posix.write(to, bytes((kind, 0)) + step.to_bytes(2, sys.byteorder) + value.to_bytes(4, sys.byteorder, signed=True))


def place(fds, numbers):
    """Moves descriptors to numbers that this process has reserved: see reserve in template.py."""
    for fd, to in zip(fds, numbers):
        posix.dup2(fd, to, False)
        posix.close(fd)


def put(fds, numbers):
    """Moves descriptors to other numbers. Old and new numbers may overlap. Only for a process without
    other threads: one of them could have opened a file at one of these numbers."""
    high = max(fds + numbers) + 1
    for i, fd in enumerate(fds):
        posix.dup2(fd, high + i, False)
    for fd in fds:
        posix.close(fd)
    for i, to in enumerate(numbers):
        posix.dup2(high + i, to, False)
        posix.close(high + i)
