# Memory ahead of time. A forked worker shares its memory with the template until it writes to it.
# Then each page costs a page fault, and a run of one line writes to a hundred pages. The template
# learns once which these are, from a practice run (practice.py). A worker copies them while nobody
# waits.

import ctypes, marshal, posix

from .syscalls import call, madvise, page, prctl

POPULATE_READ, POPULATE_WRITE = 22, 23  # advice for madvise(2)
PROCESS_MADVISE, SELF = 440, -10000  # PIDFD_SELF
IOV_MAX = 1024
DEATH_SIGNAL, SIGKILL = 1, 9  # PR_SET_PDEATHSIG
PRESENT, OF_A_FILE, EXCLUSIVE = 63, 61, 56  # bits of an entry of pagemap


def touched(maps, pagemap):
    """The memory that this process has written since it was forked, and the pages of files that it has
    mapped: address, size and advice of each range."""
    text = b""
    while piece := posix.read(maps, 1 << 16):
        text += piece
    ranges = []
    for line in text.splitlines():
        place, rights, _, device, *_ = line.split()
        start, end = (int(x, 16) for x in place.split(b"-"))
        written, mapped = rights == b"rw-p", rights in (b"r--p", b"r-xp") and device != b"00:00"
        if not written and not mapped or start >> 63:
            continue
        entries = memoryview(posix.pread(pagemap, (end - start) // page * 8, start // page * 8)).cast("Q")
        last = None
        for i, entry in enumerate(entries):
            if entry >> PRESENT and (mapped or entry >> EXCLUSIVE & 1 and not entry >> OF_A_FILE & 1):
                if last is not None and i - last <= (64 if mapped else 1):  # mapping one page more is cheap, copying one is not
                    ranges[-1][1] = start + (i + 1) * page - ranges[-1][0]
                else:
                    ranges.append([start + i * page, page, POPULATE_READ if mapped else POPULATE_WRITE])
                last = i
    return ranges


def memory_of_self():
    """Opens its files in /proc. Later this process is not dumpable, and they belong to root."""
    return posix.open("/proc/self/maps", posix.O_RDONLY), posix.open("/proc/self/pagemap", posix.O_RDONLY)


def end_with_parent():
    prctl(DEATH_SIGNAL, SIGKILL, 0, 0, 0)


def compared(files):
    """Begins to count what is written: a forked process holds all of the memory until the function
    that is returned has written the result."""
    read, write = posix.pipe()
    pid = posix.fork()
    if not pid:
        end_with_parent()
        posix.close(write)
        posix.read(read, 1)
        posix._exit(0)

    def written(to):
        posix.write(to, marshal.dumps(touched(*files)))
        posix.close(write)
        posix.waitpid(pid, 0)

    return written


def listed(ranges):
    """The ranges as process_madvise(2) takes them: a vector, its length, the sum of the sizes, the advice."""
    lists = []
    for advice in POPULATE_READ, POPULATE_WRITE:
        some = [r[:2] for r in ranges if r[2] == advice][:IOV_MAX]
        flat = [x for r in some for x in r]
        lists.append(((ctypes.c_size_t * len(flat))(*flat), len(some), sum(flat[1::2]), advice))
    return lists


def prepare(lists):
    """Copies and maps pages ahead of time, as far as the kernel can: before 5.14 it does not know this
    advice, before 6.14 it takes one range at a time."""
    for vector, count, total, advice in lists:
        if call(PROCESS_MADVISE, SELF, ctypes.addressof(vector), count, advice, 0, 0) != total:
            for i in range(0, 2 * count, 2):
                madvise(vector[i], vector[i + 1], advice)
