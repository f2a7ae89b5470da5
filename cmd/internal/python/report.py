# The part of the bootstrap that is used only now and then: values that are not plain JSON, tracebacks, and the commands
# that only look. The bootstrap gives it sys, own(module), which imports without a record, name_of(type), and what it
# remembers from before the user's code: the built-in names, the loaded modules, system, which imports depend on, and the prefixes of
# the interpreter's own libraries.

modules = system["modules"]
StringIO, Mapping = loaded["_io"].StringIO, (loaded.get("_collections_abc") or own("_collections_abc")).Mapping

LARGEST = 2**53 - 1
DEPTH = 64
DIGITS = 4300  # of a number in JSON, as Python itself has it
TEXT = 65536  # bytes of one str() of an object, in UTF-8
NAMED = 10  # warnings of one kind that name their path


class TooLarge(Exception):
    pass


PASSED = TooLarge, MemoryError, KeyboardInterrupt  # what spoils the value is its own; these are limits and signals


class Converter:
    """Turns any value into lists, dicts with string names and scalars that JSON knows."""

    def __init__(self, form, most):
        self.tagged = form == "tagged"
        self.left = most
        self.above = []  # the containers that we are in; by their id() an audit hook would be called
        self.warnings = []
        self.counts = {}
        self.text = None  # str() of the whole value, when the JSON does not hold it exactly

    def warn(self, code, path, message):
        entry = [code, (path if len(path) <= 400 else path[:200] + "..." + path[-200:]) + ": " + message]
        if entry in self.warnings[-1:]:
            return
        n = self.counts[code] = self.counts.get(code, 0) + 1
        if n <= NAMED:
            self.warnings.append(entry)

    def inexact(self, value, path, what):
        if path == "result":
            self.text = self.string(value, path)
        else:
            self.warn("inexact_value", path, what)

    def string(self, value, path):
        try:
            text = str.__str__(str(value))
        except PASSED:
            raise
        except BaseException as e:
            self.warn("inexact_value", path, "str() failed with " + name_of(type(e)))
            return "<%s object>" % name_of(type(value))
        text = self.whole(text, path)
        cut = text[:TEXT].encode("utf-8")[:TEXT].decode("utf-8", "ignore")
        if len(cut) < len(text):
            self.warn("truncated_value", path, "text of %d characters cut to %d" % (len(text), len(cut)))
        return cut

    def whole(self, text, path):
        """Text without lone surrogates, which JSON readers refuse or spoil."""
        try:
            text.encode("utf-8")
            return str.__str__(text)
        except UnicodeEncodeError:
            self.warn("inexact_value", path, "lone surrogates replaced by U+FFFD")
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def convert(self, v, path, depth=0):
        self.left -= 1
        if self.left < 0:
            raise TooLarge
        try:
            return self.exact(v, path, depth)
        except PASSED:
            raise
        except BaseException as e:  # of a method of the value's: sys.exit() in it ends nothing
            self.warn("inexact_value", path, "reading it failed with " + name_of(type(e)))
            return "<%s object>" % name_of(type(v))

    def exact(self, v, path, depth):
        kind = type(v)
        if v is None or kind is bool:
            return v
        if kind is str:
            return self.whole(v, path)
        if isinstance(v, bool) or isinstance(v, int):
            return self.integer(int(v), path)
        if isinstance(v, float):
            return self.real(float(v), path)
        if isinstance(v, str):
            return self.whole(str.__str__(v), path)
        if isinstance(v, (bytes, bytearray, memoryview)):
            return self.octets(bytes(v), path)
        scalar = self.scalar(v, path)
        if scalar is not NotImplemented:
            return scalar
        if depth >= DEPTH:
            self.warn("truncated_value", path, "nested deeper than %d levels" % DEPTH)
            return None
        if any(v is x for x in self.above):
            self.warn("circular_value", path, "a circular reference, replaced by null")
            return None
        self.above.append(v)
        try:
            return self.container(v, path, depth + 1)
        finally:
            self.above.pop()

    def integer(self, v, path):
        if -LARGEST <= v <= LARGEST:
            return v
        if self.tagged:
            return {"$int": digits(v)}
        text = digits(v)
        try:
            int.__repr__(v)
            if len(text) <= DIGITS:
                return v  # the launcher names it in its warnings
        except ValueError:  # the encoder would say the same
            pass
        if path == "result":
            self.text = text[:TEXT]
        else:
            self.warn("inexact_value", path, "an integer of %d digits, as text" % len(text.lstrip("-")))
        return text

    def real(self, v, path):
        if v - v == 0:
            return v
        if self.tagged:
            return {"$float": "NaN" if v != v else "Infinity" if v > 0 else "-Infinity"}
        self.inexact(v, path, "%r is not JSON, replaced by null" % v)
        return None

    def octets(self, v, path):
        if self.tagged:
            return {"$bytes": base64(v)}
        try:
            text = v.decode("utf-8")
        except UnicodeDecodeError:
            self.inexact(v, path, "bytes, as Base64")
            return base64(v)
        self.inexact(v, path, "bytes, as text")
        return text

    def scalar(self, v, path):
        """Types of the standard library and of NumPy and pandas that are one value. Modules that are not loaded cannot be their type's."""
        loaded = sys.modules.get
        pandas = loaded("pandas")
        if pandas is not None and (v is getattr(pandas, "NaT", ABSENT) or v is getattr(pandas, "NA", ABSENT)):
            return self.none(v, path)
        numpy = loaded("numpy")
        if numpy is not None and isinstance(v, getattr(numpy, "generic", ())):
            item = tuple([v[name] for name in v.dtype.names]) if v.dtype.names else v.item()
            if v.dtype.kind in "mM":
                if item is None:
                    return self.none(v, path)
                if isinstance(item, int):  # nanoseconds: no type of the standard library has them
                    return self.moment(v, path)
            return NotImplemented if type(item) is type(v) else self.convert(item, path)
        datetime = loaded("datetime")
        if datetime is not None:
            for tag, kind in (("$datetime", "datetime"), ("$date", "date"), ("$time", "time")):
                if isinstance(v, getattr(datetime, kind, ())):
                    if self.tagged:
                        return {tag: v.isoformat()}
                    self.inexact(v, path, "a " + kind + ", as ISO 8601 text")
                    return v.isoformat()
            if isinstance(v, getattr(datetime, "timedelta", ())) and self.tagged and not getattr(v, "nanoseconds", 0):  # pandas has those
                return {"$timedelta": [v.days, v.seconds, v.microseconds]}
        for module, kind, tag in (("decimal", "Decimal", "$decimal"), ("pathlib", "PurePath", "$path"), ("uuid", "UUID", "$uuid"), ("fractions", "Fraction", "$fraction")):
            there = loaded(module)
            if there is not None and isinstance(v, getattr(there, kind, ())):
                text = self.string(v, path)
                if self.tagged:
                    return {tag: text}
                self.inexact(v, path, "a " + kind + ", as text")
                return text
        if isinstance(v, complex) and self.tagged:
            return {"$complex": [self.real(v.real, path), self.real(v.imag, path)]}
        return NotImplemented

    def none(self, v, path):
        """Not a time, not available."""
        if self.tagged:
            return self.named(v, path)
        self.inexact(v, path, "%s, replaced by null" % self.string(v, path))
        return None

    def moment(self, v, path):
        text = self.string(v, path)
        if v.dtype.kind == "m":
            if self.tagged:
                return self.named(v, path)
            self.inexact(v, path, "a timedelta64, as text")
            return text
        if self.tagged:
            return {"$datetime": text}
        self.inexact(v, path, "a datetime64, as ISO 8601 text")
        return text

    def named(self, v, path):
        return {"$str": self.string(v, path), "type": type(v).__module__ + "." + type(v).__qualname__}

    def container(self, v, path, depth):
        def items(values):
            return [self.convert(x, "%s[%d]" % (path, i), depth) for i, x in enumerate(values)]

        if isinstance(v, (list, tuple)):
            if self.tagged and isinstance(v, tuple):
                return {"$tuple": items(v)}
            return items(v)
        if isinstance(v, (set, frozenset)):
            try:
                ordered = sorted(v)
            except Exception:
                ordered = list(v)
            return {"$frozenset" if isinstance(v, frozenset) else "$set": items(ordered)} if self.tagged else items(ordered)
        if isinstance(v, Mapping):
            return self.mapping(v, path, depth)
        if isinstance(v, getattr(sys.modules.get("_collections"), "deque", ())):
            return {"$deque": items(v)} if self.tagged else items(v)
        numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
        if numpy is not None and isinstance(v, getattr(numpy, "ndarray", ())):
            # Times one by one: what the array itself makes of those in nanoseconds is numbers.
            plain = self.convert(scalars(v) if v.dtype.kind in "mM" or v.dtype.names else v.tolist(), path, depth)
            return {"$ndarray": plain, "dtype": str(v.dtype), "shape": list(v.shape)} if self.tagged else plain
        if pandas is not None:
            if isinstance(v, getattr(pandas, "DataFrame", ())):
                columns = v.columns.tolist()
                v = self.distinct(v, columns, path)
                if self.tagged:
                    frame = v.to_dict(orient="split")
                    frame["columns"] = columns
                    return {"$dataframe": {key: self.convert(frame[key], path + "." + key, depth) for key in ("columns", "index", "data")}}
                return self.convert(v.to_dict(orient="records"), path, depth)
            if isinstance(v, getattr(pandas, "Series", ())):
                plain = self.convert(v.tolist(), path, depth)
                return {"$series": plain, "index": self.convert(v.index.tolist(), path, depth)} if self.tagged else plain
            if isinstance(v, getattr(pandas, "Index", ())):
                return self.convert(v.tolist(), path, depth)
            if isinstance(v, getattr(sys.modules.get("pandas.api.extensions"), "ExtensionArray", ())):
                plain = self.convert(list(v), path, depth)
                return {"$ndarray": plain, "dtype": str(v.dtype), "shape": [len(v)]} if self.tagged else plain
        if self.tagged:
            return self.named(v, path)
        text = self.string(v, path)
        if path == "result":
            self.text = text
        else:
            self.warn("inexact_value", path, "an object of type %s, as its str()" % name_of(type(v)))
        return text

    def distinct(self, frame, columns, path):
        """A table whose columns have names of their own: of those that share one, pandas gives the last only."""
        if frame.columns.is_unique:
            return frame
        labels = [self.key(c, path) for c in columns]
        names, seen, taken = [], set(), set(labels)
        for label in labels:
            name, n = label, 0
            while name in seen or n and name in taken:
                n += 1
                name = "%s#%d" % (label, n)
            if n and not self.tagged:
                self.warn("inexact_value", "%s[%s]" % (path, json_name(label)), "a second column of this name, as %s" % name)
            seen.add(name)
            names.append(name)
        frame = frame.copy(deep=False)
        frame.columns = names
        return frame

    def mapping(self, v, path, depth):
        pairs = list(v.items())
        if self.tagged and any(type(k) is not str or k[:1] == "$" for k, _ in pairs):
            return {"$dict": [[self.convert(k, path, depth), self.convert(x, path, depth)] for k, x in pairs]}
        out = {}
        for k, x in pairs:
            name = self.key(k, path)
            if name in out:
                n = 1
                while "%s#%d" % (name, n) in out:
                    n += 1
                self.warn("inexact_value", "%s.%s" % (path, name), "a second key of this name, as %s#%d" % (name, n))
                name = "%s#%d" % (name, n)
            out[name] = self.convert(x, "%s.%s" % (path, name) if name.isidentifier() else "%s[%s]" % (path, json_name(name)), depth)
        return out

    def key(self, k, path):
        """What the key is as a value, as text."""
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(k, getattr(numpy, "bool_", ())):
            k = bool(k)
        if isinstance(k, str):
            return self.whole(str.__str__(k), path)
        if k is None or k is True or k is False:
            return {None: "null", True: "true", False: "false"}[k]
        if isinstance(k, int):
            return digits(int(k))
        if isinstance(k, bytes):
            try:
                return bytes(k).decode("utf-8")
            except UnicodeDecodeError:
                return base64(bytes(k))
        return self.string(k, path)


def json_name(name):
    return '"%s"' % ascii(name)[1:-1].replace('"', '\\"')


def scalars(array):
    if array.ndim == 0:
        return array[()]
    return list(array) if array.ndim == 1 else [scalars(a) for a in array]


def digits(v):
    """Decimal digits of any integer: newer Pythons refuse more than 4300."""
    try:
        return int.__repr__(v)
    except ValueError:
        limit = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)
        try:
            return int.__repr__(v)
        finally:
            sys.set_int_max_str_digits(limit)


def base64(octets):
    global to_base64
    if to_base64 is None:
        try:
            b2a_base64 = undisturbed(own, "binascii").b2a_base64
            to_base64 = lambda octets: b2a_base64(octets, newline=False).decode()
        except Exception:  # no descriptor is left to import it with, say
            to_base64 = slow_base64
    return to_base64(octets)


to_base64 = None


def slow_base64(octets):
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    more = -len(octets) % 3
    octets += b"\0" * more
    groups = [int.from_bytes(octets[i:i + 3], "big") for i in range(0, len(octets), 3)]
    text = "".join([letters[g >> 18] + letters[g >> 12 & 63] + letters[g >> 6 & 63] + letters[g & 63] for g in groups])
    return text[:len(text) - more] + "=" * more


def value(v, form, most, about, encode):
    """The JSON of a value; fills in the description that goes with it."""
    converter = Converter(form, most)
    try:
        raw = encode(converter.convert(v, "result"))
    except TooLarge:
        return " " * (most + 1)  # each part would take a byte at least: the launcher measures what is there, and believes nothing else
    if converter.text is not None:
        about["text"] = converter.text
    for code, n in converter.counts.items():
        if n > NAMED:
            converter.warnings.append([code, "and %d more of these" % (n - NAMED)])
    about["warnings"] = converter.warnings
    return raw


# --- exceptions -------------------------------------------------------------------------------------------

ABSENT = object()

# Standard modules that traceback, linecache and we import, for the Pythons that cannot tell which are standard (before 3.10).
STANDARD = frozenset("""_ast _bootlocale _codecs _collections _collections_abc _functools _heapq _locale _operator _sre _weakref _weakrefset
    abc ast binascii builtins codecs collections contextlib copyreg enum functools heapq io itertools keyword linecache operator re reprlib
    sre_compile sre_constants sre_parse sys textwrap token tokenize traceback types unicodedata warnings weakref""".split())


clean = (modules, loaded), (vars(loaded["builtins"]), builtins), (vars(sys), system)
libraries = tuple([d + "/" for d in system["path"] if d.startswith(prefixes)])


def change(names, to):
    """Changes a namespace; returns what changes it back."""
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
    """Calls with the built-in names, the loaded modules and the ways to import as they were before the user's code."""
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


def is_ours(filename):
    return filename[:7] == "<py3run"


def failure(error, request, about):
    """Describes an exception; returns a function that shows it as Python would have."""
    path, shown = request["path"], request["shown"]
    source = request["code"]
    if isinstance(source, bytes):
        source = source.decode("utf-8", "replace")
    lines = list(StringIO(source, None))  # as Python counts lines: a form feed ends none
    if lines and lines[-1][-1:] != "\n":
        lines[-1] += "\n"  # as linecache gives them; else the carets are one column off
    try:
        tb = error.__traceback__
        while tb is not None and is_ours(tb.tb_frame.f_code.co_filename):
            tb = tb.tb_next
        error.__traceback__ = tb
        message, here, text, full = undisturbed(standard_text, error, path, shown, lines)
    except BaseException:  # the code spoiled more than we can mend, or there is nothing left to import with
        message, here, text = own_text(error, path, shown, lines)
        full = text

    syntax = isinstance(error, SyntaxError) and error.filename in (path, shown)
    if syntax:
        message = "%s (%s, line %s)" % (error.msg, shown, error.lineno)
    about["error"] = clean_text((name_of(type(error)) + (": " + message if message else "")))[:4096]
    about["traceback"] = clean_text(text)[-65536:]
    if isinstance(error, OSError) and isinstance(error.errno, int):
        about["errno"] = error.errno
    if syntax:
        if isinstance(error.lineno, int):
            about["line"] = error.lineno
        if isinstance(error.offset, int) and error.offset > 0:
            about["column"] = error.offset
        about["syntax"] = True
    elif here:
        about["line"] = here

    stay(error)

    def show():
        if sys.excepthook is sys.__excepthook__:
            sys.stderr.write(full)
            sys.stderr.flush()
        else:
            sys.excepthook(type(error), error, error.__traceback__)

    return show


def standard_text(error, path, shown, lines):
    """The message, the line, the traceback with the user's frames only, and the whole."""
    linecache, traceback = own("linecache"), own("traceback")
    linecache.cache[path] = sum(map(len, lines)), None, lines, path  # the file may be gone, or say another encoding
    lazycache = getattr(linecache, "lazycache", None)
    # The main program's loader gives its source for every name: what the code has compiled itself would be shown with the main program's lines.
    linecache.lazycache = lambda name, names: bool(lazycache) and (names or {}).get("__name__") != "__main__" and lazycache(name, names)
    try:
        told = traceback.TracebackException(type(error), error, error.__traceback__)
        here = rename(told, path, shown, set())
    finally:
        linecache.lazycache = lazycache
    text = full = "".join(told.format())
    if prune(told, True, set()):
        prune(told, False, set())
        text = "".join(told.format())
    message = told._str  # asked for once: it may be the user's code
    return FAILED if message in ("<exception str() failed>", "<unprintable %s object>" % name_of(type(error))) else message, here, text, full


FAILED = "<str() failed>"


def stay(error):
    """Without a group that limits memory only what the kernel shows of a living process tells whether memory was short: then the launcher, which looks ten
    times a second, is to see it while the exception still holds what was in use."""
    try:
        short = isinstance(error, MemoryError) or isinstance(error, OSError) and error.errno in (11, 12)  # EAGAIN, ENOMEM
        if not short and not (isinstance(error, RuntimeError) and "start new thread" in str(error)):
            return
        posix = own("posix")
        fd = posix.open("/proc/self/limits", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            _, _, data = posix.read(fd, 8192).partition(b"Max data size")
        finally:
            posix.close(fd)
        if data and data.split()[0] != b"unlimited":
            own("time").sleep(0.2)
    except Exception:
        pass


def own_text(error, path, shown, lines):
    """The same without an import, as far as it goes."""
    try:
        message = str.__str__(str(error))
    except BaseException:
        message = FAILED
    text, here = "Traceback (most recent call last):\n", None
    try:
        tb = error.__traceback__
        while tb is not None:
            code, number = tb.tb_frame.f_code, tb.tb_lineno
            mine = code.co_filename == path
            if mine or not is_library(code.co_filename):
                text += '  File "%s", line %d, in %s\n' % (shown if mine else code.co_filename, number, code.co_name)
            if mine:
                here = number
                if 0 < number <= len(lines):
                    text += "    " + lines[number - 1].strip() + "\n"
            tb = tb.tb_next
    except BaseException:  # an audit hook of the user's may refuse even these
        pass
    return message, here, text + name_of(type(error)) + (": " + message if message else "") + "\n"


def is_library(filename):
    return filename.startswith(libraries) or filename[:8] == "<frozen " or is_ours(filename)


def linked(told):
    """The exceptions that an exception is told with."""
    return [e for e in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())) if e is not None]


def prune(told, look, seen):
    """Drops the library's frames; or, to look, tells whether there are such and others too: if none is the user's, all are kept."""
    found = set()
    level = [told]
    while level:
        told = level.pop()
        if id(told) in seen:
            continue
        seen.add(id(told))
        found.update([is_library(f.filename) for f in told.stack])
        if not look:
            told.stack[:] = [f for f in told.stack if not is_library(f.filename)]
        level += linked(told)
    return len(found) == 2


def rename(told, path, shown, seen):
    """Shows the user's file by the name that the caller gave, drops our frames; returns the user's innermost line."""
    if id(told) in seen:
        return None
    seen.add(id(told))
    here = None
    kept = [f for f in told.stack if not is_ours(f.filename)]
    for frame in kept:
        frame.line  # read now, under the real name
        if frame.filename == path:
            here = frame.lineno
            frame.filename = shown
    told.stack[:] = kept
    if getattr(told, "filename", None) == path:
        told.filename = shown
    for other in linked(told):
        rename(other, path, shown, seen)
    return here


def clean_text(text):
    return text.encode("utf-8", "replace").decode("utf-8")


def command(name, request):
    return {"check_syntax": check_syntax, "get_completions": get_completions, "list_modules": list_modules}[name](request)


def check_syntax(request):
    warnings = own("warnings")
    found = []
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        try:
            compile(request["code"][request["code"][:1] == "\ufeff":], request["shown"], "exec", 0, True)
        except SyntaxError as e:
            found.append({"line": max(e.lineno or 1, 1), "column": max(e.offset or 1, 1), "message": e.msg, "severity": "error"})
        except (ValueError, OverflowError, RecursionError, MemoryError) as e:  # a NUL, nesting beyond the parser
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
        import jedi
    except ImportError:
        out = plain_completions(lines, line, column)
        return {"completions": out, "count": len(out), "message": "jedi is not installed for %s: only keywords, built-ins, names of the code and the standard library" % sys.executable}
    out = []
    for c in jedi.Script(request["code"]).complete(line, column)[:200]:
        item = {"text": c.name, "type": c.type, "complete": c.complete}
        if c.description:
            item["description"] = c.description
        out.append(item)
    return {"completions": out, "count": len(out)}


def plain_completions(lines, line, column):
    """What can be told without jedi, and without running anything but imports of the standard library."""
    re, keyword = own("re"), own("keyword")
    before, behind = lines[line - 1][:column], lines[line - 1][column:]
    at = column
    while at and (before[at - 1].isalnum() or before[at - 1] in "_."):
        at -= 1
    owner, dot, start = before[at:].rpartition(".")
    owner += dot
    # The code without the name that is being written.
    code = "\n".join(lines[:line - 1] + [before[:at] + " " + re.sub(r"^\w+", "", behind)] + lines[line:])
    found = {}

    def offer(names, holder=ABSENT, kind="statement"):
        for name in names:
            if name.startswith(start) and (start[:1] == "_" or name[:1] != "_"):
                found.setdefault(name, kind if holder is ABSENT else kind_of(getattr(holder, name, None)))

    short = before if len(before) < 1000 else ""  # what imports are written on
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
    elif before[:at].rstrip()[-1:] != ".":  # else of something that is not known
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
