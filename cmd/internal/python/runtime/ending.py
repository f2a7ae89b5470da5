# The end of the process. Finalizing an interpreter costs a tenth of its start, and after most
# programs nobody can notice whether it was done. leave does the rest of what an interpreter does at
# its end, in the same order, and then ends the process. It does not end the process if somebody
# could notice: if an object is left that does something when it dies, or a library with buffers or
# exit functions of its own. Then the interpreter ends by itself.

import gc, posix, sys, _weakref

from . import memory
from .before import forget, loaded, modules
from .events import events

unknown = frozenset((  # nobody knows what the C libraries below these do at an exit
    "_ctypes", "_curses", "_curses_panel", "_dbm", "_gdbm", "_interpreters", "_sqlite3", "_testcapi", "_tkinter", "_xxsubinterpreters", "readline"))
mro_of, vars_of = type.__dict__["__mro__"].__get__, type.__dict__["__dict__"].__get__
get_objects, referents, tracked, weak = gc.get_objects, gc.get_referents, gc.is_tracked, _weakref.ref
containers, function = frozenset((list, dict, tuple, set)), type(lambda: None)
audited = False  # the code has a hook of its own, which would notice


def audits(a):
    global audited
    audited = True


def prepare(ends):
    """Returns what leave needs at the end. ends is a function that ends the process at once; with
    None, the interpreter has to end by itself. (A global name would keep the streams alive until
    after the interpreter's own last flush.)"""
    events["sys.addaudithook"] = audits
    return ends, sys.stdout, sys.stderr


def silent_end():
    for module in modules.keys() - loaded.keys():
        file = getattr(modules[module], "__file__", None)
        if module in unknown or type(file) is str and file[-3:] == ".so" and "/lib-dynload/" not in file:
            return False
    left = get_objects()
    while left:
        size = len(left)
        for x in left:
            kind = type(x)
            if kind in containers:
                size += len(x)
            elif weak in mro_of(kind):
                call = x.__callback__
                if type(call) is function and call.__module__ not in ("weakref", "_weakrefset"):
                    return False
        if size > 20000:
            return False
        for kind in set(map(type, left)):
            for base in mro_of(kind):
                if "__del__" in vars_of(base):  # files, sockets, generators and coroutines have one, too
                    return False
        left = [x for x in referents(*left) if not tracked(x)]  # the collector does not track objects without containers
    return True


def leave(code, prepared):
    try:
        if posix.getpid() == memory.process and (code is None or type(code) is int):
            depart(code or 0, *prepared)
    except Exception:
        pass
    forget()
    gc.unfreeze()  # else nothing that can be reached from here is ever finalized


def depart(code, end, stdout, stderr):
    if audited or not end or sys.modules is not modules or sys.stdout is not stdout or sys.stderr is not stderr:
        return
    threading, atexit = modules.get("threading"), modules.get("atexit")
    if threading is not None:
        if len(threading._active) != 1 or threading._limbo:
            return
        threading._shutdown()
    if atexit is not None and atexit._ncallbacks():
        try:
            atexit._run_exitfuncs()
        except BaseException:  # atexit has printed it
            pass
    if silent_end():
        stdout.flush()
        stderr.flush()
        end(code)
