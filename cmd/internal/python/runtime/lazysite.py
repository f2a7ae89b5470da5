# An interpreter that was started with -S, without site, imports site as soon as the code would miss
# it: when an import finds nothing, or when a module is imported that shows what site has done.

import sys, _imp
from _thread import RLock

from . import own, quietly
from .before import modules, system
from .imports import asked

shows_site = frozenset((
    "site", "sysconfig", "pkgutil", "runpy", "importlib.machinery", "importlib.metadata", "importlib.util", "pkg_resources", "multiprocessing", "venv"))
# The standard library itself tries these, for other systems. No package has such a name.
never = frozenset(getattr(sys, "stdlib_module_names", ("nt", "msvcrt", "winreg", "_winapi", "_winreg", "_overlapped"))) | {"org", "java", "vms_lib"}

path_before = system["path"]  # without what the request adds
lock = RLock()  # threads that miss site meanwhile wait
missing = True


def delay():
    names, builtins = own("_sitebuiltins"), modules["builtins"]
    builtins.quit, builtins.exit = (names.Quitter(n, "Ctrl-D (i.e. EOF)") for n in ("quit", "exit"))
    builtins.help = names._Helper()
    sys.meta_path.append(last)
    asked.update(dict.fromkeys(shows_site, load))


def load(wanted):
    """Imports site, if that was not done. Returns a spec if this has loaded the module."""
    held = 0
    try:  # finders are called with the import lock held: release it for other threads
        while True:
            _imp.release_lock()
            held += 1
    except RuntimeError:
        pass
    try:
        with lock:
            if missing:
                do_site()
    finally:
        for _ in range(held):
            _imp.acquire_lock()
    module = modules.get(wanted)
    if module is None:
        return None
    kept = module.__spec__  # it is loaded, and must not be loaded again

    class Loader:
        def create_module(spec):
            return module

        def exec_module(module):
            module.__spec__ = kept

    module.__spec__ = type(sys.__spec__)(wanted, Loader)  # importlib looks at it, and would load the module again
    return module.__spec__


def do_site():
    global missing
    missing = False
    for name in shows_site:
        asked.pop(name, None)
    sys.meta_path[:] = [f for f in sys.meta_path if f is not last]
    # site sorts the whole path. So it gets the interpreter's directories only; what it adds comes
    # after those of the request
    path, sys.path = sys.path, path_before.copy()
    try:
        quietly(own("site").main)
    finally:
        added, sys.path = sys.path, path
        path += [p for p in added if p not in path_before and p not in path]


def find_spec(fullname, where=None, target=None):
    """The last finder in sys.meta_path: no other has found the module."""
    if type(where) is list or fullname in never:  # a list: inside a package, to which site adds nothing
        return None
    spec = load(fullname)
    if spec is not None:
        return spec
    for other in list(sys.meta_path):
        spec = other.find_spec(fullname, where, target) if hasattr(other, "find_spec") and other is not last else None
        if spec is not None:
            return spec
    return None


last = type("py3run", (), {"find_spec": staticmethod(find_spec)})
