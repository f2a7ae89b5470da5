# The commands that only look at code. No code of the user's runs in their interpreter, so they may
# import anything.

import sys

from . import interpreter_import, own
from .before import loaded, modules
from .pristine import ABSENT, libraries


def check_syntax(request):
    warnings = own("warnings")
    found = []
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            compile(request["code"][request["code"][:1] == "\ufeff":], request["shown"], "exec", 0, True)
        except SyntaxError as e:
            found.append({"line": max(e.lineno or 1, 1), "column": max(e.offset or 1, 1), "message": e.msg, "severity": "error"})
        except (ValueError, OverflowError, RecursionError, MemoryError) as e:  # a NUL, or nested too deeply for the parser
            found.append({"line": 1, "column": 1, "message": str(e) or type(e).__name__, "severity": "error"})
    for w in noted:
        found.append({"line": w.lineno or 1, "column": 1, "message": str(w.message), "severity": "warning"})
    return {"errors": found}


def get_completions(request):
    line, column = request["line"], request["column"]
    lines = request["code"].split("\n")
    line = min(line, len(lines)) if line else len(lines)
    column = min(column, len(lines[line - 1])) if column >= 0 else len(lines[line - 1])
    try:
        jedi = interpreter_import("jedi")  # this is an event
    except ImportError:
        out = plain_completions(lines, line, column)
        return {"completions": out, "count": len(out), "message": "jedi is not installed for %s: only keywords, built-ins, names of the code and the standard library" % sys.executable}
    try:
        found = jedi.Script(request["code"]).complete(line, column)
    except Exception:
        # Jedi keeps what it has parsed in the user's cache directory. It fails if it cannot make that, and if it
        # reads a file there that another process is still writing, or was killed while it wrote.
        jedi.settings.cache_directory = own("tempfile").gettempdir()
        found = jedi.Script(request["code"]).complete(line, column)
    out = []
    for c in found[:200]:
        item = {"text": c.name, "type": c.type, "complete": c.complete}
        if c.description:
            item["description"] = c.description
        out.append(item)
    return {"completions": out, "count": len(out)}


def plain_completions(lines, line, column):
    """Completions without jedi. Nothing is run but imports of the standard library."""
    re, keyword = own("re"), own("keyword")
    before, behind = lines[line - 1][:column], lines[line - 1][column:]
    at = column
    while at and (before[at - 1].isalnum() or before[at - 1] in "_."):
        at -= 1
    owner, dot, start = before[at:].rpartition(".")
    owner += dot
    # The code without the name that the user is typing.
    code = "\n".join(lines[:line - 1] + [before[:at] + " " + re.sub(r"^\w+", "", behind)] + lines[line:])
    found = {}

    def offer(names, holder=ABSENT, kind="statement"):
        for name in names:
            if name.startswith(start) and (start[:1] == "_" or name[:1] != "_"):
                found.setdefault(name, kind if holder is ABSENT else kind_of(getattr(holder, name, None)))

    short = before if len(before) < 1000 else ""  # long lines are no imports
    package = re.match(r"\s*from\s+([\w.]+)\s+import\s+[\w, (]*$", short)
    if package and not owner:
        module = standard(package.group(1))
        offer(dir(module) if module else (), module)
    elif re.match(r"\s*(import|from)\s+([\w.]+\s*(as\s+\w+)?,\s*)*[\w.]*$", short):
        if owner:
            module = standard(owner[:-1])
            offer([m.name for m in own("pkgutil").iter_modules(getattr(module, "__path__", []))], kind="module")
            offer([n[len(owner):] for n in sorted(modules) if n.startswith(owner) and "." not in n[len(owner):]], kind="module")  # as os.path
        else:
            offer(list_modules(None)["modules"], kind="module")
    elif owner:
        first, *more = owner[:-1].split(".")
        thing = getattr(loaded["builtins"], first, None)
        for package, names in re.findall(r"(?m)^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+)?import[ \t]+([^#;\n]+)", code):
            for each in names.strip("() \t").split(","):
                name, _, known = (part.strip() for part in each.partition(" as "))
                if package and first == (known or name):
                    thing = getattr(standard(package), name, None)
                elif not package and first == (known or name.partition(".")[0]):
                    thing = standard(name if known else first)
        for name in more:
            thing = getattr(thing, name, None)
        if thing is not None:
            offer(dir(thing), thing)
    elif before[:at].rstrip()[-1:] != ".":  # else it is an attribute of something unknown
        offer(re.findall(r"[^\W\d]\w*", re.sub(r"#.*|'[^'\n]*'|\"[^\"\n]*\"", "", code)))
        offer(dir(loaded["builtins"]), loaded["builtins"])
        for name in keyword.kwlist:
            if name.startswith(start):
                found[name] = "keyword"
    return [{"text": name, "type": found[name], "complete": name[len(start):]} for name in sorted(found)[:200]]


def standard(name):
    """A module of the standard library, or None."""
    top = name.partition(".")[0]
    try:
        spec = own("importlib.util").find_spec(top)
        if not spec or "__main__" in name.split(".") or top in ("antigravity", "idlelib", "test", "this") or "-packages" in spec.origin or not (
                spec.origin in ("built-in", "frozen") or spec.origin.startswith(libraries)):
            return None
        return own(name)
    except (Exception, SystemExit):
        return None


def kind_of(thing):
    if isinstance(thing, type):
        return "class"
    if isinstance(thing, type(sys)):
        return "module"
    return "function" if callable(thing) else "instance"


def list_modules(request):
    pkgutil = own("pkgutil")
    names = set(sys.builtin_module_names) | set(getattr(sys, "stdlib_module_names", ()))
    names.update(m.name for m in pkgutil.iter_modules())
    names = sorted(n for n in names if n.isidentifier() and n[:1] != "_")
    return {"modules": names, "count": len(names)}


commands = {"check_syntax": check_syntax, "get_completions": get_completions, "list_modules": list_modules}
