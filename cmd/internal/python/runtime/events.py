# The audit hook: it notes what the code does with files, connections and programs, as events in the
# shared memory. A forked child writes them into a pipe.
#
# The hook runs in the middle of the user's operations. So it imports nothing, opens nothing, and
# never calls repr() on an argument. Handlers look at the frame of the operation by its depth: the
# interpreter calls hook, and hook calls the handler. A call in between would break that.

import posix, sys
from itertools import count
from _codecs import unicode_escape_encode as escape  # by its name, Python would import a codec in the middle of an event

from . import memory
from .constants import (
    COUNTERS, DISTINCT, EVENT_APPEND, EVENT_BIND, EVENT_CONNECT, EVENT_DELETE, EVENT_MAKE_DIR, EVENT_READ, EVENT_START, EVENT_START_CUT,
    EVENT_WRITE, TEXT_OFFSET, WORD_DROPPED)

LINE = 4000  # bytes of an event at most: below PIPE_BUF, so that lines of several children do not mix
WRITES = 0o1103  # O_WRONLY | O_RDWR | O_CREAT | O_TRUNC
APPENDS = 0o2000  # O_APPEND
NOT_READ = 0o10200000 | 0o40000  # O_PATH, and O_DIRECTORY, which has two numbers
ENAMETOOLONG = 36

seen, ids, drops = {}, count(), count(1)
external = vars(sys.modules["_frozen_importlib_external"])
reads = False  # files that are read are events, too
child = False  # this process is a forked child: its events go through the pipe
pipe = -1


def note(kind, *fields):
    fields = [f if type(f) is str else str(f) for f in fields]
    line = kind + "\t".join(fields)
    known = seen.get(line)
    if known is not None:
        memory.words[known[0]] = next(known[1])
        return
    # tabs inside fields are escaped
    text = b"\t".join([escape(f)[0] for f in fields])
    if len(text) > LINE:
        fields[0] = shortened(fields[0], len(escape(fields[0])[0]) + LINE - 10 - len(text))
        text = b"\t".join([escape(f)[0] for f in fields])
    text = b"%s%s\n" % (kind.encode(), text)
    if child:
        try:
            posix.write(pipe, text)
        except Exception:
            memory.words[WORD_DROPPED] += 1
        return
    number = next(ids)
    try:
        if number >= DISTINCT:
            raise ValueError
        memory.write(text)
    except ValueError:  # the memory is full
        drop()
        return
    memory.words[COUNTERS + number] = 1
    seen[line] = COUNTERS + number, count(2)


def drop():
    memory.words[WORD_DROPPED] = next(drops)


def shortened(field, room):
    """The beginning of a text, with an ellipsis, that takes at most room bytes when it is escaped."""
    kept = field
    while len(escape(kept)[0]) > max(room, 0):
        kept = kept[:len(kept) * room // len(escape(kept)[0])] if room > 0 else ""
    return kept + "\u2026"


def begin_again():
    """The next request of a kept interpreter has events of its own."""
    global ids, drops
    seen.clear()
    ids, drops = count(), count(1)
    memory.ring.seek(TEXT_OFFSET)


def forked():
    global child
    child = True
    seen.clear()


# --- names ----------------------------------------------------------------------------------------------------


def text(value):
    return value.decode("utf-8", "surrogateescape") if isinstance(value, (bytes, bytearray)) else str(value)


def name(path, directory=-1):
    """The absolute path. A relative one begins at the descriptor directory, or at the working directory."""
    if type(path) is not str:
        path = text(path)
    if path[:1] != "/":
        path = place("fd/%d" % directory if type(directory) is int and directory >= 0 else "cwd") + "/" + path
    return path


def place(link):
    try:
        return posix.readlink("/proc/self/" + link)
    except OSError as e:
        # The path is too long for one call. The C library's getcwd would look for the name of each
        # directory on the way up: with a thousand directories that takes a second.
        return posix.getcwd() if link == "cwd" and e.errno != ENAMETOOLONG else "?"


def cached(path):
    """Whether the import system itself writes byte code there, which is not the user's doing."""
    if ".pyc" not in path and path[-12:] != "/__pycache__" or sys._getframe(3).f_globals is not external:
        return False
    prefix = getattr(sys, "pycache_prefix", None)
    return "/__pycache__" in (path[-12:], path.rpartition("/")[0][-12:]) or bool(prefix) and path.startswith(prefix)


# --- handlers: each gets the arguments of its events ---------------------------------------------------------


def opened(a):
    if a[2] & WRITES and type(a[0]) is not int:
        path = text(a[0])
        # The event of os.open has no mode, and does not have dir_fd either. Where the calling code
        # uses dir_fd, the directory is unknown.
        if path[:1] != "/" and a[1] is None and any(type(c) is tuple and "dir_fd" in c for c in sys._getframe(2).f_code.co_consts):
            note(EVENT_WRITE, "?/" + path)
            return
        path = name(path)
        if path != "/dev/null" and not cached(path):
            note(EVENT_APPEND if a[2] & APPENDS else EVENT_WRITE, path)
    elif reads and not a[2] & NOT_READ and type(a[0]) is not int and sys._getframe(2).f_globals is not external:
        path = text(a[0])
        known = path[:1] == "/" or a[1] is not None or not any(type(c) is tuple and "dir_fd" in c for c in sys._getframe(2).f_code.co_consts)
        note(EVENT_READ, name(path) if known else "?/" + path)


def written(a):
    if type(a[0]) is not int:
        note(EVENT_WRITE, name(a[0]))


def linked(a):
    note(EVENT_WRITE, name(a[1], a[-1] if len(a) > 2 else -1))


def made(a):
    path = name(a[0], a[2] if len(a) > 2 else -1)
    if not cached(path):
        note(EVENT_MAKE_DIR, path)


def deleted(a):
    path = name(a[0], a[1] if len(a) > 1 else -1)
    if not cached(path):
        note(EVENT_DELETE, path)


def renamed(a):
    source, target = name(a[0], a[2] if len(a) > 2 else -1), name(a[1], a[3] if len(a) > 3 else -1)
    if not (cached(source) and cached(target)):
        note(EVENT_DELETE, source)
        note(EVENT_WRITE, target)


def connected(a, kind=EVENT_CONNECT):
    to = a[1]
    if type(to) is tuple and len(to) > 1:
        note(kind, text(to[0]), to[1])
    elif isinstance(to, (str, bytes)) and to:
        to = text(to)
        note(kind, "unix:" + ("@" + to[1:] if to[0] == "\0" else to))


def program(path, args):
    if isinstance(args, (str, bytes)):
        args = [args]
    args = [text(x) for x in list(args)[1:]]
    path, shown, short, room = text(path), [], 0, LINE - 100
    if len(path) > 200:
        room -= len(escape(path)[0])
        if room < 1900:
            path, room = shortened(path, 1990), 1900
    for x in args[:16]:
        kept = x[:300]
        room -= len(escape(kept)[0]) + 1
        if room < 0:
            break
        shown.append(kept)
        short += kept != x
    if short or len(shown) < len(args):
        note(EVENT_START_CUT, len(args) - len(shown), short, path, *shown)
    else:
        note(EVENT_START, path, *shown)


def executed(a):
    if type(a[0]) is int or posix.access(a[0], 1):  # execvp tries each directory of PATH
        program(a[0], a[1])


def spawned(a):
    if sys._getframe(2).f_globals.get("__name__") != "subprocess":  # that has its own event
        program(a[0], a[1])


def unseen(a):  # a new interpreter inside this one has no hook
    drop()


events = {
    "open": opened, "os.truncate": written, "os.link": linked, "os.symlink": linked, "os.mkdir": made,
    "cpython.PyInterpreterState_New": unseen,
    "os.remove": deleted, "os.rmdir": deleted, "os.rename": renamed,
    "socket.connect": connected, "socket.sendto": connected, "socket.sendmsg": connected, "socket.bind": lambda a: connected(a, EVENT_BIND),
    "subprocess.Popen": lambda a: program(a[0], a[1]), "os.exec": executed,
    "os.posix_spawn": spawned, "os.spawn": lambda a: program(a[1], a[2]), "os.system": lambda a: program("/bin/sh", ["sh", "-c", a[0]]),
}


def hook(event, args, events=events):
    if event in events:
        try:
            events[event](args)
        except Exception:  # it would abort the user's operation. Signal handlers may raise others: these pass
            drop()
