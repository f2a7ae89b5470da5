# What the interpreter has before the user's code: what imports depend on, while the path is the
# interpreter's alone, the loaded modules and the built-in names.

import sys

from . import loaded

modules = sys.modules
prefixes = sys.prefix + "/lib", sys.base_prefix + "/lib"
system, builtins = {}, {}


def remember():
    """In a template this comes behind what is preloaded."""
    system.update(modules=modules, path=sys.path.copy(), meta_path=sys.meta_path.copy(), path_hooks=sys.path_hooks.copy())
    loaded.update(modules)
    loaded.pop("__main__", None)
    builtins.update(vars(modules["builtins"]))


def forget():
    """The hook outlives all modules of the interpreter, and with it whatever can be reached from here."""
    system.clear(), loaded.clear(), builtins.clear()
