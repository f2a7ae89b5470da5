# What runs in front of the user's code, in the same interpreter.
#
# These modules are a package that the import system never sees. The interpreter compiles them once
# (probe.py), the launcher hands them over in a file (bytecode.go), and an import statement with a
# leading dot executes one when it is first needed: see load. So nothing of them is in sys.modules
# or in the user's __main__, and they keep working when the code has changed built-in names, modules
# or the ways to import. That is for isolation from mistakes; code that fights the record can reach
# everything in its own process.
#
# Every run pays for its start. So each module is loaded at one of these moments, and imports of the
# standard library only what stands here. TestModules holds the table.
#
#   moment                     modules                           may import
#   -------------------------  --------------------------------  -------------------------------------
#   every start, before the    __init__ constants memory before  what costs nothing: _codecs _imp _json
#   user's code                events imports replies ending     _warnings _weakref faulthandler fcntl
#                              program                           gc itertools marshal mmap posix sys
#                                                                time
#   such a start, if the       lazysite                          _imp _thread sys; later site
#   request asks for it        carry (there are variables)       unicodedata, if a name is not ASCII
#   later, if it is needed     values (a value that is not       sys; binascii, for bytes
#                              plain JSON)
#                              tables (NumPy or pandas)          sys; never NumPy or pandas
#                              tracebacks shortening pristine    posix sys time; linecache traceback
#                              spawned (multiprocessing)         marshal
#                              keep (an interpreter that is      posix sys; _io _signal _socket _thread gc
#                              kept)
#                              awaiting                          asyncio
#                              completion (commands that only    sys; anything
#                              look at code)
#   a template                 template preloading messages      _signal _socket ctypes gc marshal posix
#                              syscalls pages practice worker    sys time; what is to be preloaded
#                              initprocess forgetting
#
# What stands behind a semicolon is not loaded by Python itself, and only imported in the function
# that needs it, by way of own or undisturbed (pristine.py).
#
# The later modules are read at every start, but executed only when they are needed: at that moment
# there may be no descriptor left to read with, and little memory.

import sys, marshal

loaded = {}  # the interpreter's modules that were loaded before the user's code: see before.py
silent = True  # imports are not the user's now, and no events
interpreter_import = __import__
name_of = type.__dict__["__name__"].__get__  # the name of a type; a metaclass may have another idea of it


def start(package, first, codes, later, template=None):
    """Runs the job whose files begin at the descriptor first. codes has the code of each module, or
    its place in later. template is the descriptor that a template gets its requests from."""
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
    """Import statements in these modules call this. With a leading dot they mean one of these, else
    one of the interpreter's."""
    if not level:
        module = loaded.get(name)
        if module is not None and "." not in name:  # the code may have put something else in its place
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
    """Calls something whose imports are not the user's."""
    global silent
    before, silent = silent, True
    try:
        return call(*args)
    finally:
        silent = before


def own(module):
    """Imports a module of the interpreter's by its full name."""
    quietly(interpreter_import, module)
    return sys.modules[module]


def is_silent():
    return silent


def listen():
    """From here on the imports are the user's."""
    global silent
    silent = False
