# An uncaught exception: its message, its line, its traceback with the user's frames only, and what
# Python itself would print.
#
# This imports traceback after the user's code, which may have changed anything: see pristine.py. If
# that fails, own_text does without.

import posix, sys, time

from . import name_of, own
from .before import loaded
from .pristine import libraries, undisturbed
from .shortening import SHOWN, members_of, shorten, shown_of

FAILED = "<str() failed>"
StringIO = loaded["_io"].StringIO
EAGAIN, ENOMEM = 11, 12


def is_ours(filename):
    return filename[:7] == "<py3run"


def failure(error, request, about):
    """Describes an exception in about, and returns a function that shows it as Python would."""
    path, shown = request["path"], request["shown"]
    source = request["code"] if not request.get("unread") else ""
    if isinstance(source, bytes):
        source = source.decode("utf-8", "replace")
    lines = list(StringIO(source, None))  # lines as Python counts them: a form feed does not end one
    if lines and lines[-1][-1:] != "\n":
        lines[-1] += "\n"  # as in linecache; else the carets are one column off
    try:
        tb = error.__traceback__
        while tb is not None and is_ours(tb.tb_frame.f_code.co_filename):
            tb = tb.tb_next
        error.__traceback__ = tb
        if request.get("unread"):
            forget_text(error)
        message, here, text, full = undisturbed(standard_text, error, path, shown, lines)
    except BaseException:  # the code has damaged too much, or no descriptor is left for imports
        message, here, text = own_text(error, path, shown, lines)
        full = text

    syntax = isinstance(error, SyntaxError) and error.filename in (path, shown)
    if syntax:
        message = "%s (%s, line %s)" % (error.msg, shown, error.lineno)
    about["error"] = clean_text((name_of(type(error)) + (": " + message if message else "")))[:4096]
    about["traceback"] = clean_text(text)[-65536:]
    if isinstance(error, OSError) and isinstance(error.errno, int):
        about["errno"] = error.errno
    if syntax:
        if isinstance(error.lineno, int):
            about["line"] = error.lineno
        if isinstance(error.offset, int) and error.offset > 0:
            about["column"] = error.offset
        about["syntax"] = True
    elif here:
        about["line"] = here

    stay(error)

    def show():
        if sys.excepthook is sys.__excepthook__:
            sys.stderr.write(full)
            sys.stderr.flush()
        else:
            sys.excepthook(type(error), error, error.__traceback__)

    return show


def forget_text(error):
    """Takes the line of code from syntax errors: it shows what nobody may read."""
    met, level = set(), [error]
    while level and len(met) < 1000:
        e = level.pop()
        if e is None or id(e) in met:
            continue
        met.add(id(e))
        if isinstance(e, SyntaxError):
            e.text = None
        level += e.__cause__, e.__context__
        level += members_of(e)[:SHOWN]


def standard_text(error, path, shown, lines):
    """The message, the line, the traceback with the user's frames only, and the whole traceback."""
    linecache, traceback = own("linecache"), own("traceback")

    class Gap(traceback.FrameSummary):
        """Stands for frames that are left out."""

    class Stack(traceback.StackSummary):
        def format(self, **how):
            out, frames = [], traceback.StackSummary()
            for frame in self:
                if isinstance(frame, Gap):
                    out += [*frames.format(**how), frame.text]
                    frames = traceback.StackSummary()
                else:
                    frames.append(frame)
            return out + frames.format(**how)

    def left_out(beside, text):
        gap = Gap(beside.filename, beside.lineno, beside.name, lookup_line=False, line="")
        gap.text = "  [%s]\n" % text
        return gap

    def mark(told, error):
        """Puts gaps into the stacks of an exception and of those that come with it."""
        level, met = [(told, error)], set()
        while level:
            told, error = level.pop()
            if told is None or error is None or id(told) in met:
                continue
            met.add(id(told))
            frames = []
            for frame, (before, repeated) in zip(told.stack, gaps.get(id(error), ())):
                if before:
                    frames.append(left_out(frame, before))
                frames.append(frame)
                if repeated:
                    frames.append(left_out(frame, "Previous line repeated %d more time%s" % (repeated, "s" if repeated > 1 else "")))
            if len(frames) > len(told.stack):
                told.stack = Stack(frames)
            level += (told.__cause__, error.__cause__), (told.__context__, error.__context__)
            level += zip(getattr(told, "exceptions", None) or (), members_of(error)[:SHOWN])

    gaps, back = {}, []
    linecache.cache[path] = sum(map(len, lines)), None, lines, path  # the file may be gone, or name another encoding
    lazycache = getattr(linecache, "lazycache", None)
    # The loader of the main program returns its source for every file name. So code that the
    # program has compiled itself would be shown with lines of the main program.
    linecache.lazycache = lambda name, names: bool(lazycache) and (names or {}).get("__name__") != "__main__" and lazycache(name, names)
    try:
        shorten(error, gaps, back)
        told = traceback.TracebackException(type(error), error, error.__traceback__)
        mark(told, error)
        here = rename(told, path, shown, set())
    finally:
        linecache.lazycache = lazycache
        for e, tb, cause, context, suppressed in back:
            e.__traceback__, e.__cause__, e.__context__, e.__suppress_context__ = tb, cause, context, suppressed
    text = full = "".join(told.format())
    if prune(told, True, set()):
        prune(told, False, set())
        text = "".join(told.format())
    message = told._str  # str() is called only once: it may be the user's code
    return FAILED if message in ("<exception str() failed>", "<unprintable %s object>" % name_of(type(error))) else message, here, text, full


def stay(error):
    """Waits, if memory may have run out. Without a memory control group, the launcher can only see this
    in the process, which it looks at ten times a second: it must look while the exception still holds
    the memory."""
    try:
        short = isinstance(error, MemoryError) or isinstance(error, OSError) and error.errno in (EAGAIN, ENOMEM)
        if not short and not (isinstance(error, RuntimeError) and "start new thread" in str(error)):
            return
        fd = posix.open("/proc/self/limits", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            _, _, data = posix.read(fd, 8192).partition(b"Max data size")
        finally:
            posix.close(fd)
        if data and data.split()[0] != b"unlimited":
            time.sleep(0.2)
    except Exception:
        pass


def own_text(error, path, shown, lines):
    """The same, roughly, without imports."""
    try:
        message = str.__str__(str(error))
    except BaseException:
        message = FAILED
    text, here = "Traceback (most recent call last):\n", None
    try:
        for tb, before, repeated in shown_of(error.__traceback__):
            code, number = tb.tb_frame.f_code, tb.tb_lineno
            mine = code.co_filename == path
            if before:
                text += "  [%s]\n" % before
            if mine or not is_library(code.co_filename):
                text += '  File "%s", line %d, in %s\n' % (shown if mine else code.co_filename, number, code.co_name)
            if mine:
                here = number
                if 0 < number <= len(lines):
                    text += "    " + lines[number - 1].strip() + "\n"
            if repeated and (mine or not is_library(code.co_filename)):
                text += "  [Previous line repeated %d more time%s]\n" % (repeated, "s" if repeated > 1 else "")
    except BaseException:  # an audit hook of the user's can refuse even this
        pass
    return message, here, text + name_of(type(error)) + (": " + message if message else "") + "\n"


def is_library(filename):
    return filename.startswith(libraries) or filename[:8] == "<frozen " or is_ours(filename)


def linked(told):
    """The exceptions that come with an exception."""
    return [e for e in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())) if e is not None]


def prune(told, look, seen):
    """Removes the frames of libraries. With look, it only tells whether there are such frames and others,
    too: if there are only frames of libraries, all are kept."""
    found = set()
    level = [told]
    while level:
        told = level.pop()
        if id(told) in seen:
            continue
        seen.add(id(told))
        found.update([is_library(f.filename) for f in told.stack])
        if not look:
            told.stack[:] = [f for f in told.stack if not is_library(f.filename)]
        level += linked(told)
    return len(found) == 2


def rename(told, path, shown, seen):
    """Shows the user's file under the name that the caller gave, removes our frames, and returns the
    user's innermost line."""
    if id(told) in seen:
        return None
    seen.add(id(told))
    here = None
    kept = [f for f in told.stack if not is_ours(f.filename)]
    for frame in kept:
        frame.line  # read it now, under the real name
        if frame.filename == path:
            here = frame.lineno
            frame.filename = shown
    told.stack[:] = kept
    if getattr(told, "filename", None) == path:
        told.filename = shown
    for other in linked(told):
        rename(other, path, shown, seen)
    return here


def clean_text(text):
    return text.encode("utf-8", "replace").decode("utf-8")
