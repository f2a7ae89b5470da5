# What preloaded modules have registered for the end belongs to the template's end: in a worker it
# would remove what the next worker needs. So a worker forgets it. The worker keeps what the standard
# library itself does at the end, because what the run adds needs that.

import gc, sys


def forget(closers):
    """Forgets it, and returns what was forgotten, for the caller to keep alive: no finalizer may run
    here. closers are the objects that remove temporary files."""
    forgotten = []
    for part in exits, finalizers, helpers:
        try:
            part(forgotten)
        except Exception:  # a module has replaced what is expected here
            pass
    for closer in closers:
        closer.delete = False
    return forgotten


def module(name):
    return sys.modules.get(name)


def empty(things, forgotten):
    forgotten.append(list(things.items() if hasattr(things, "items") else things))
    things.clear()


def exits(forgotten):
    atexit, threading = module("atexit"), module("threading")
    if atexit is not None:
        forgotten.append(gc.get_referents(atexit))
        atexit._clear()
    late = early = getattr(atexit, "register", None)
    if hasattr(threading, "_threading_atexits"):  # from Python 3.9 on
        empty(threading._threading_atexits, forgotten)
        early = threading._register_atexit
    for register, name, function in (
            (late, "logging", "shutdown"), (late, "multiprocessing.util", "_exit_function"),
            (early, "concurrent.futures.thread", "_python_exit"), (early, "concurrent.futures.process", "_python_exit")):
        if module(name) is not None:
            register(getattr(module(name), function))


def finalizers(forgotten):
    finalize = getattr(module("weakref"), "finalize", None)
    if finalize is not None:
        empty(finalize._registry, forgotten)
        finalize._registered_with_atexit = False
    for name, things in (
            ("multiprocessing.util", "_finalizer_registry"), ("multiprocessing.process", "_children"),
            ("concurrent.futures.thread", "_threads_queues"), ("concurrent.futures.process", "_threads_wakeups")):
        if module(name) is not None:
            empty(getattr(module(name), things), forgotten)


def helpers(forgotten):
    """Processes that help multiprocessing: the run starts its own."""
    if module("multiprocessing.process") is not None:
        module("multiprocessing.process").current_process()._config.pop("tempdir", None)
    tracker = getattr(module("multiprocessing.resource_tracker"), "_resource_tracker", None)
    if tracker is not None:
        tracker._fd = tracker._pid = None
    server = getattr(module("multiprocessing.forkserver"), "_forkserver", None)
    if server is not None:
        server._forkserver_address = server._forkserver_alive_fd = server._forkserver_pid = None
