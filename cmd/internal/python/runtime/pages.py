# Memory ahead of time. A fork shares its memory with the template until it writes: then each page
# costs a fault, and a run of one line writes a hundred. Which these are is learned once, from a run
# of nothing (practice.py). A worker makes them its own while nobody waits for it.

import ctypes, marshal, posix

from .syscalls import call, madvise, page, prctl

POPULATE_READ, POPULATE_WRITE = 22, 23  # advice for madvise(2)
PROCESS_MADVISE, SELF = 440, -10000  # PIDFD_SELF
IOV_MAX = 1024
DEATH_SIGNAL, SIGKILL = 1, 9  # PR_SET_PDEATHSIG
PRESENT, OF_A_FILE, EXCLUSIVE = 63, 61, 56  # bits of an entry of pagemap


def touched(maps, pagemap):
    """What a process has written of the memory it got from its parent, and the files it has mapped: address, size and advice."""
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
                if last is not None and i - last <= (64 if mapped else 1):  # a page more to map is cheap, one to copy is not
                    ranges[-1][1] = start + (i + 1) * page - ranges[-1][0]
                else:
                    ranges.append([start + i * page, page, POPULATE_READ if mapped else POPULATE_WRITE])
                last = i
    return ranges


def memory_of_self():
    """To be opened before this process stops being dumpable: then these files are root's."""
    return posix.open("/proc/self/maps", posix.O_RDONLY), posix.open("/proc/self/pagemap", posix.O_RDONLY)


def end_with_parent():
    prctl(DEATH_SIGNAL, SIGKILL, 0, 0, 0)


def compared(files):
    """From here on it counts what is written: another process has all of the memory until the function that comes back has told."""
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
    """Ranges as process_madvise(2) takes them: a vector, its length, the bytes of all, and the advice."""
    lists = []
    for advice in POPULATE_READ, POPULATE_WRITE:
        some = [r[:2] for r in ranges if r[2] == advice][:IOV_MAX]
        flat = [x for r in some for x in r]
        lists.append(((ctypes.c_size_t * len(flat))(*flat), len(some), sum(flat[1::2]), advice))
    return lists


def prepare(lists):
    """What it cannot do, it leaves: kernels before 5.14 do not know the advice, those before 6.14 take one range at a time."""
    for vector, count, total, advice in lists:
        if call(PROCESS_MADVISE, SELF, ctypes.addressof(vector), count, advice, 0, 0) != total:
            for i in range(0, 2 * count, 2):
                madvise(vector[i], vector[i + 1], advice)
