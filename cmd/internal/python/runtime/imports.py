# Imports: how many modules the code loads, and who imports a flagged one.
#
# The import of a loaded module raises no audit event, but it reads _initializing of the module's
# spec. So the spec of a flagged module gets a class in which _initializing is a property. Here,
# too, the importing frame is found by its depth.

import sys
from itertools import count

from . import events, is_silent, memory
from .constants import EVENT_DIRECT, EVENT_INDIRECT, WORD_IMPORTS

modules = sys.modules
imports = count(1)
unheard = "_interpreters" if sys.version_info >= (3, 13) else None  # since then, a new interpreter raises no event
asked = {}  # by the name of a module: a function that is called when it is looked for; gives a spec or None
flagged = ()
path = None  # of the user's code
watching = {}  # by the class of a spec, the class that watches
first_import = None  # in a worker: called with the name of a flagged module that is imported


def counted():
    memory.words[WORD_IMPORTS] = next(imports)


def watch(spec):
    Plain = type(spec)
    if Plain in watching.values():
        return
    if Plain not in watching:
        watching[Plain] = watcher(Plain)
    spec.__class__ = watching[Plain]


def watcher(Plain):
    """The class that watches specs of the class Plain."""

    def look(spec):
        if is_silent():
            return
        if first_import is not None:
            first_import(spec.name)
        f = sys._getframe(2)  # go past the import system, and from code in a string to the code that executes it
        while f and (f.f_code.co_filename[:1] == "<" or f.f_globals.get("__name__") == "importlib"):
            f = f.f_back
        if f and f.f_code.co_filename == path:
            events.note(EVENT_DIRECT, spec.name)
            spec.__class__ = Plain  # there is nothing more to learn
        else:
            events.note(EVENT_INDIRECT, spec.name)

    def get(spec):
        try:
            look(spec)
        except Exception:
            pass
        return spec.__dict__.get("_initializing", False)

    def put(spec, value):
        if value:
            get(spec)
        spec.__dict__["_initializing"] = value

    body = {"__module__": Plain.__module__, "__qualname__": Plain.__qualname__, "_initializing": property(get, put)}
    return type(Plain.__name__, (Plain,), body)


def find_spec(fullname, where=None, target=None):
    """The first finder in sys.meta_path. It finds nothing itself."""
    if not events.child and not is_silent():
        counted()
        if fullname == unheard:
            events.unseen(None)
    find = asked.get(fullname)
    if find is not None:
        spec = find(fullname)
        if spec is not None:
            return spec
    if fullname in flagged:
        for other in list(sys.meta_path):
            find = getattr(other, "find_spec", None)
            if find is None or find is find_spec:
                continue
            spec = find(fullname, where, target)
            if spec is not None:
                try:
                    watch(spec)
                except TypeError:  # a spec whose class cannot change
                    events.note(EVENT_INDIRECT, fullname)
                return spec
    return None


def watch_imports(names):
    """Watches the modules with these names, whether they are loaded or not."""
    global flagged
    flagged = names
    watch_loaded()
    sys.meta_path.insert(0, type("py3run", (), {"find_spec": staticmethod(find_spec)}))


def begin_again():
    """The next request of a kept interpreter has imports of its own."""
    global imports
    imports = count(1)
    watch_loaded()


def watch_loaded():
    for module in flagged:
        spec = getattr(modules.get(module), "__spec__", None)
        if spec is not None:
            try:
                watch(spec)
            except TypeError:
                pass
