# Imports as if the user's code had not run: with the built-in names, the loaded modules and the
# import system of before.

import sys

from .before import builtins, loaded, modules, prefixes, system

ABSENT = object()

# Modules of the standard library that traceback and linecache import. Python before 3.10 has no
# list of standard modules.
STANDARD = frozenset("""_ast _bootlocale _codecs _collections _collections_abc _functools _heapq _locale _operator _sre _weakref _weakrefset
    abc ast binascii builtins codecs collections contextlib copyreg enum functools heapq io itertools keyword linecache operator re reprlib
    sre_compile sre_constants sre_parse sys textwrap token tokenize traceback types unicodedata warnings weakref""".split())


libraries = tuple([d + "/" for d in system["path"] if d.startswith(prefixes)])  # the interpreter's own
clean = (modules, loaded), (vars(loaded["builtins"]), builtins), (vars(sys), system)


def change(names, to):
    """Changes a namespace, and returns what undoes it."""
    back = {}
    for name, v in to.items():
        was = names.get(name, ABSENT)
        if was is not v:
            back[name] = was
            if v is ABSENT:
                del names[name]
            else:
                names[name] = v
    return back


def is_standard(module):
    try:
        origin = module.__spec__.origin
        return origin in ("built-in", "frozen") or origin.startswith(libraries)
    except Exception:
        return False


def undisturbed(call, *args):
    """Calls a function with the built-in names, the loaded modules and the import system as they were
    before the user's code."""
    standard = getattr(sys, "stdlib_module_names", STANDARD)
    before = modules.copy()
    foreign = {name: ABSENT for name, m in before.items() if name.partition(".")[0] in standard and not is_standard(m)}
    back = []
    try:
        back.append((modules, change(modules, foreign)))
        for names, to in clean:
            back.append((names, change(names, to)))
        return call(*args)
    finally:
        change(modules, dict.fromkeys(modules.keys() - before.keys() - loaded.keys(), ABSENT))
        for names, was in reversed(back):
            change(names, was)
