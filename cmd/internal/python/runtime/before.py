# The interpreter as it was before the user's code: what imports depend on, while the path has only
# the interpreter's own directories; the loaded modules; the built-in names.

import sys

from . import loaded

modules = sys.modules
prefixes = sys.prefix + "/lib", sys.base_prefix + "/lib"
system, builtins = {}, {}


def remember():
    """Call this once; in a template, after it has imported what it preloads."""
    system.update(modules=modules, path=sys.path.copy(), meta_path=sys.meta_path.copy(), path_hooks=sys.path_hooks.copy())
    loaded.update(modules)
    loaded.pop("__main__", None)
    builtins.update(vars(modules["builtins"]))


def forget():
    """Call this at the end: the audit hook outlives all modules of the interpreter, and would keep
    alive whatever can be reached from here."""
    system.clear(), loaded.clear(), builtins.clear()
