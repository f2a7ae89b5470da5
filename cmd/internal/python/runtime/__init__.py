# What runs in front of the user's code, in the same interpreter.
#
# These modules are a package that the import system never sees. The interpreter compiles them once
# (probe.py), the launcher hands them over in a file (python.go), and an import statement with a
# leading dot executes one when it is first needed: see load. So nothing of them is in sys.modules
# or in the user's __main__, and they keep working when the code has changed built-in names, modules
# or the ways to import. That is for isolation from mistakes; code that fights the record can reach
# everything in its own process.
#
# The price of a start is on every run, so a module has its moment, and imports of the standard
# library only what this table allows:
#
#   moment                       modules                                      may import of the standard library
#   every start                  __init__ constants memory before events      what costs nothing: sys posix marshal mmap faulthandler
#                                imports replies ending program               time gc fcntl itertools _imp _json _warnings _weakref _codecs
#   a run that asks for it,
#     before the user's code     lazysite; carry, where there are variables   _thread _sitebuiltins; unicodedata for names that are not ASCII
#   at any time after            values (a value that is no plain JSON),      nothing at first; binascii for bytes, by way of pristine
#                                tables (of NumPy or pandas)
#                                tracebacks, shortening, pristine             traceback and linecache, by way of pristine
#                                workers (multiprocessing), awaiting          what the code has loaded by then; asyncio
#                                completion (commands that only look)         all
#   a template                   template preloading syscalls pages           _socket _signal ctypes; then what is to be preloaded
#                                practice initprocess worker forgetting
#                                messages
#
# What the reply cannot do without is loaded before the user's code begins: afterwards there may be
# no descriptor and no memory left. The later modules are read then, too, but only executed when
# they are needed; that takes no descriptor.

import sys, marshal

loaded = {}  # the interpreter's modules that were loaded before the user's code: see before.py
silent = True  # what is imported now is not the user's doing, and not told
interpreter_import = __import__
name_of = type.__dict__["__name__"].__get__  # the name of a type; a metaclass may have another idea of it


def start(package, first, codes, later, template=None):
    """Runs a job, whose files begin at the descriptor first. codes are those of the modules by name, or where they are in later;
    template: the descriptor that a template is reached by."""
    global runtime, parts, rest
    runtime, parts, rest = package, codes, later
    __builtins__["__import__"] = load
    if template is None:
        from .program import run

        run(first)
    else:
        from .template import live

        live(first, template)


def load(name, globals=None, locals=None, fromlist=(), level=0):
    """What import statements in these modules call. With a leading dot they mean one of these, else one of the interpreter's."""
    if not level:
        module = loaded.get(name)
        if module is not None and "." not in name:  # whatever the code has put in its place since
            return module
        return quietly(interpreter_import, name, globals, locals, fromlist)
    ours = vars(runtime)
    for part in (name,) if name else fromlist:
        if part not in ours:
            code = parts[part]
            if type(code) is tuple:
                code = marshal.loads(rest[slice(*code)])
            ours[part] = type(sys)("py3run." + part)
            try:
                exec(code, vars(ours[part]))
            except BaseException:  # an audit hook of the user's can refuse it
                del ours[part]
                raise
    return ours[name] if name else runtime


def quietly(call, *args):
    """Calls what may import for us."""
    global silent
    before, silent = silent, True
    try:
        return call(*args)
    finally:
        silent = before


def own(module):
    """A module of the interpreter's, by its full name."""
    quietly(interpreter_import, module)
    return sys.modules[module]


def is_silent():
    return silent


def listen():
    """From here on the imports are the user's."""
    global silent
    silent = False
