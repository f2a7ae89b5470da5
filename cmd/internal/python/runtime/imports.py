# Imports: how many modules are loaded, and who imports a flagged one.
#
# An import of a loaded module raises no audit event, but it does read _initializing of the module's
# spec. So the spec of a flagged module gets a class whose _initializing is a property. The frames
# are counted here, too.

import sys
from itertools import count

from . import events, is_silent, memory
from .constants import EVENT_DIRECT, EVENT_INDIRECT, WORD_IMPORTS

modules = sys.modules
imports = count(1)
unheard = "_interpreters" if sys.version_info >= (3, 13) else None  # from there on no event tells of a new interpreter
asked = {}  # what is called when a module is looked for, by its name: it gives a spec, or None
flagged = ()
path = None  # of the program
first_import = None  # is told of each flagged or preloaded module, where there are such


def counted():
    memory.words[WORD_IMPORTS] = next(imports)


def watch(spec):
    Plain = type(spec)

    def look(spec):
        if is_silent():
            return
        if first_import is not None:
            first_import(spec.name)
        f = sys._getframe(2)  # past the import system, and past code from a string to who executed it
        while f and (f.f_code.co_filename[:1] == "<" or f.f_globals.get("__name__") == "importlib"):
            f = f.f_back
        if f and f.f_code.co_filename == path:
            events.note(EVENT_DIRECT, spec.name)
            spec.__class__ = Plain  # nothing more to learn
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
    spec.__class__ = type(Plain.__name__, (Plain,), body)


def find_spec(fullname, where=None, target=None):
    """Comes first in sys.meta_path, and finds nothing itself."""
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
                except TypeError:  # a spec of another make
                    events.note(EVENT_INDIRECT, fullname)
                return spec
    return None


def watch_imports(names):
    """Watches the modules of these names, loaded or not."""
    global flagged
    flagged = names
    for module in flagged:
        spec = getattr(modules.get(module), "__spec__", None)
        if spec is not None:
            try:
                watch(spec)
            except TypeError:
                pass
    sys.meta_path.insert(0, type("py3run", (), {"find_spec": staticmethod(find_spec)}))
