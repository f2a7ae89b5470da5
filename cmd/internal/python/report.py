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
NAMES = 1000  # characters of a list of names


class TooLarge(Exception):
    pass


PASSED = TooLarge, MemoryError, KeyboardInterrupt  # what spoils the value is its own; these are limits and signals


class Converter:
    """Turns any value into lists, dicts with string names and scalars that JSON knows."""

    def __init__(self, form, most):
        self.tagged = form == "tagged"
        self.naming = False  # a key is made, which is text anyhow
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
        if self.naming:
            return
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
        if self.naming:
            return self.string(v, path)
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
            return self.array(v, path, depth, numpy)
        if pandas is not None:
            if isinstance(v, getattr(pandas, "DataFrame", ())):
                return self.frame(v, path, depth)
            if isinstance(v, getattr(pandas, "Series", ())):
                return self.series(v, path, depth)
            if isinstance(v, getattr(pandas, "Index", ())):
                return self.convert(v.tolist(), path, depth)
            if isinstance(v, getattr(sys.modules.get("pandas.api.extensions"), "ExtensionArray", ())):
                plain = self.convert(list(v), path, depth)
                return {"$ndarray": plain, "dtype": str(v.dtype), "shape": [len(v)]} if self.tagged else plain
        kind = name_of(type(v))
        for method, undone in ("__await__", "awaited"), ("__next__", "consumed"), ("__anext__", "consumed"):
            if hasattr(type(v), method):  # its str() says nothing of what it would give
                self.warn("inexact_value", path, "an object of type %s, as its str(): it was not %s" % (kind, undone))
                break
        else:
            undone = None
        if self.tagged:
            return self.named(v, path)
        text = self.string(v, path)
        if path == "result":
            self.text = text
        elif undone is None:
            self.warn("inexact_value", path, "an object of type %s, as its str()" % kind)
        return text

    def array(self, v, path, depth, numpy):
        if isinstance(v, getattr(numpy, "matrix", ())):  # whose rows are matrices again
            v = v.A
        # Times one by one: what the array itself makes of those in nanoseconds is numbers.
        plain = self.convert(scalars(v) if v.dtype.kind in "mM" or v.dtype.names else v.tolist(), path, depth)
        masked = isinstance(v, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ()))
        if self.tagged:
            out = {"$ndarray": plain, "dtype": str(v.dtype), "shape": list(v.shape)}
            if masked:
                out["mask"] = self.convert(numpy.ma.getmaskarray(v).tolist(), path + ".mask", depth)
            return out
        if masked and b"\1" in numpy.ma.getmaskarray(v).tobytes():
            self.warn("inexact_value", path, "masked values, replaced by null")
        return plain

    # Of a frame the records begin with what names its rows, unless that only counts them: so a group keeps its label. A name is
    # what tells rows that somebody has numbered 0, 1, 2 from rows that nobody has named.

    def frame(self, v, path, depth):
        columns = v.columns.tolist()
        data = [v.iloc[:, i].tolist() for i in range(len(columns))]  # by position: names may repeat
        if self.tagged:
            rows = list(map(list, zip(*data))) if data else [[] for _ in range(len(v.index))]
            parts = {"columns": columns, "index": v.index.tolist(), "data": rows}
            for part, index in ("index_names", v.index), ("column_names", v.columns):
                if any(name is not None for name in index.names):
                    parts[part] = list(index.names)
            return {"$dataframe": {part: self.convert(x, path + "." + part, depth) for part, x in parts.items()}}
        if not counts(v.index):
            columns, data = level_names(v.index, v.columns) + columns, levels(v.index) + data
        names = self.distinct(columns, path, "column")
        if not len(v.index):
            self.warn("inexact_value", path, "a frame without rows, as []; its columns: " + (", ".join(names)[:NAMES] or "none"))
        return self.convert([dict(zip(names, row)) for row in zip(*data)] if data else [{} for _ in v.index], path, depth)

    def series(self, v, path, depth):
        values = v.tolist()
        if self.tagged:
            out = {"$series": self.convert(values, path, depth), "index": self.convert(v.index.tolist(), path, depth)}
            if any(name is not None for name in v.index.names):
                out["index_names"] = self.convert(list(v.index.names), path, depth)
            return out
        if counts(v.index):
            return self.convert(values, path, depth)
        if v.index.is_unique:
            return self.convert(dict(zip(self.distinct(v.index.tolist(), path, "label"), values)), path, depth)
        names = self.distinct(level_names(v.index, ()) + ["value"], path, "column")
        return self.convert([dict(zip(names, row)) for row in zip(*levels(v.index), values)], path, depth)

    def distinct(self, labels, path, what):
        """The labels as names, no two of them the same."""
        labels = [self.key(x, path) for x in labels]
        if len(set(labels)) == len(labels):
            return labels
        names, seen, taken, next_of = [], set(), set(labels), {}
        for label in labels:
            name = label
            if label in seen:
                n = next_of.get(label, 2)
                while "%s#%d" % (label, n) in taken:
                    n += 1
                name, next_of[label] = "%s#%d" % (label, n), n + 1
                self.warn("inexact_value", "%s[%s]" % (path, json_name(label)), "a second %s of this name, as %s" % (what, name))
            seen.add(name)
            names.append(name)
        return names

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
        if isinstance(k, str):
            return self.whole(str.__str__(k), path)
        was = self.tagged, self.naming
        self.tagged, self.naming = False, True
        try:
            plain = self.scalar(k, path) if not isinstance(k, (int, float, bytes, memoryview)) else NotImplemented
        finally:
            self.tagged, self.naming = was
        if isinstance(plain, (str, bool, int, float, bytes)):
            k = plain
        if k is None or k is True or k is False:
            return {None: "null", True: "true", False: "false"}[k]
        if isinstance(k, str):
            return self.whole(str.__str__(k), path)
        if isinstance(k, int):
            return digits(int(k))
        if isinstance(k, float):
            return float.__repr__(k)
        if isinstance(k, (bytes, memoryview)):
            try:
                return bytes(k).decode("utf-8")
            except UnicodeDecodeError:
                return base64(bytes(k))
        return self.string(k, path)


def counts(index):
    """Whether an index names nothing: it is 0, 1, 2 ..."""
    if is_multi(index) or index.name is not None:
        return False
    return not len(index) or index.dtype.kind in "iu" and not index.hasnans and [int(x) for x in index.tolist()] == list(range(len(index)))


def is_multi(index):
    return hasattr(index, "levels")  # which may be a single one


def levels(index):
    if not is_multi(index):
        return [index.tolist()]
    return list(zip(*index.tolist())) or [()] * index.nlevels  # get_level_values would take a number for a name


def level_names(index, columns):
    """As reset_index names them."""
    if not is_multi(index):
        return [index.name if index.name is not None else "index" if "index" not in columns else "level_0"]
    return ["level_%d" % i if name is None else name for i, name in enumerate(index.names)]


def json_name(name):
    return '"%s"' % ascii(name)[1:-1].replace('"', '\\"')


def scalars(array):
    if array.ndim == 0:
        return tuple([array[name] for name in array.dtype.names]) if is_masked_record(array) else array[()]
    return [scalars(a) if is_masked_record(a) else a for a in array] if array.ndim == 1 else [scalars(a) for a in array]


def is_masked_record(array):
    return isinstance(array, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())) and array.dtype.names


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


# --- coroutines -------------------------------------------------------------------------------------------


def awaited(v):
    """What an awaitable gives."""
    asyncio = own("asyncio")

    async def wait():
        return await v

    loop = v.get_loop() if asyncio.isfuture(v) else None  # a future can only be awaited where it belongs
    if loop is None or loop.is_closed():
        return asyncio.run(wait())
    return loop.run_until_complete(v)


# --- workers ----------------------------------------------------------------------------------------------
# multiprocessing's workers that are not forked import the code again, as __mp_main__. The request's variables travel to them with what
# multiprocessing tells each worker to prepare itself with: the worker executes WORKER when it reads that, before it imports anything.

WORKER = """
def carry(given, text, worker):
    import marshal, sys, multiprocessing.spawn as spawn
    whole, runpy = spawn.get_preparation_data, spawn.runpy

    class Carried:
        def __reduce__(self):
            return exec, (text + "carry(given, text, True)", {"given": given, "text": text})

    def get_preparation_data(name):
        data = whole(name)
        caller = sys._getframe(1)
        if caller.f_code.co_filename[:7] == "<py3run":
            caller = caller.f_back
        if caller.f_globals.get("__name__") == "multiprocessing.forkserver":
            data.pop("init_main_from_path", None)  # else the server itself would import the code, without variables
        else:
            data["variables"] = Carried()
        return data

    spawn.get_preparation_data = get_preparation_data
    if worker:
        spawn.runpy = type(sys)("runpy")
        spawn.runpy.run_module = runpy.run_module
        spawn.runpy.run_path = lambda path, init_globals=None, run_name=None: runpy.run_path(path, marshal.loads(given), run_name)
"""


def workers(variables):
    names = {"__name__": "py3run"}
    exec(WORKER, names)
    names["carry"](own("marshal").dumps(variables, 4), WORKER, False)


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


# To tell a frame costs 0.1 ms, and a recursion may be as deep as it likes.
REPEATED = 3  # entries of a traceback for the same line in a row, as Python shows them
FRAMES = 1000  # entries of one traceback, half of them from its begin
CHAINED = 100  # exceptions that led to another
SHOWN = 15  # of a group, as Python shows them
GROUP = vars(loaded["builtins"]).get("BaseExceptionGroup", ())


def members_of(error):
    return error.exceptions if isinstance(error, GROUP) else ()


def shown_of(tb):
    """The entries of a traceback that are shown: of each the traceback, what stands before it for others, and how often it repeats."""
    half = FRAMES // 2
    head, tail, out, last, same = [], [], 0, None, 0
    entries = head
    while tb is not None:
        code = tb.tb_frame.f_code
        here = code.co_filename, tb.tb_lineno, code.co_name
        same = same + 1 if here == last else 1
        last = here
        if same > REPEATED:
            entries[-1][2] += 1
        else:
            if len(head) == half:
                entries = tail
            entries.append([tb, "", 0])
            if len(tail) == 2 * half:
                out += half + sum(repeated for _, _, repeated in tail[:half])
                del tail[:half]
        tb = tb.tb_next
    if len(tail) > half:
        out += len(tail) - half + sum(repeated for _, _, repeated in tail[:-half])
        del tail[:-half]
    if out:
        tail[0][1] = "%d frames are not shown" % out
    return head + tail


def shorten(error, gaps, back):
    """Gives long tracebacks of an exception, and of those that it is told with, shorter ones; and ends long chains of them. Fills in
    where gaps are, by the exception's id, and what is to be put back."""
    level, met, told = [error], {id(error)}, 0
    while level:
        e = level.pop()
        told += 1
        was = e, e.__traceback__, e.__cause__, e.__context__, e.__suppress_context__
        entries = shown_of(was[1])
        members = members_of(e)
        for x in members[SHOWN:]:  # only counted, but looked at
            if id(x) not in met:
                met.add(id(x))
                back.append((x, x.__traceback__, x.__cause__, x.__context__, x.__suppress_context__))
                x.__traceback__ = x.__cause__ = x.__context__ = None
        others = [x for x in (was[2], was[3], *members[:SHOWN]) if x is not None and id(x) not in met]
        ends = told >= CHAINED and any(x is was[2] or x is was[3] for x in others)
        if ends and entries:
            entries[0][1] = "the exceptions before this one are not shown"
        if ends or any(before or repeated for _, before, repeated in entries):
            back.append(was)
            gaps[id(e)] = [x[1:] for x in entries]
            tb = None
            for x, _, _ in reversed(entries):
                tb = type(x)(tb, x.tb_frame, x.tb_lasti, x.tb_lineno)
            e.__traceback__ = tb
            if ends:
                e.__cause__ = e.__context__ = None
        if told < CHAINED:
            met.update(map(id, others))
            level += others


def standard_text(error, path, shown, lines):
    """The message, the line, the traceback with the user's frames only, and the whole."""
    linecache, traceback = own("linecache"), own("traceback")

    class Gap(traceback.FrameSummary):
        """Stands in a stack for frames that are left out."""

    class Stack(traceback.StackSummary):
        def format(self, **how):
            out, frames = [], traceback.StackSummary()
            for frame in self:
                if isinstance(frame, Gap):
                    out += [*frames.format(**how), frame.text]
                    frames = traceback.StackSummary()
                else:
                    frames.append(frame)
            return out + frames.format(**how)

    def left_out(beside, text):
        gap = Gap(beside.filename, beside.lineno, beside.name, lookup_line=False, line="")
        gap.text = "  [%s]\n" % text
        return gap

    def mark(told, error):
        """Puts gaps into the stacks of what is told."""
        level, met = [(told, error)], set()
        while level:
            told, error = level.pop()
            if told is None or error is None or id(told) in met:
                continue
            met.add(id(told))
            frames = []
            for frame, (before, repeated) in zip(told.stack, gaps.get(id(error), ())):
                if before:
                    frames.append(left_out(frame, before))
                frames.append(frame)
                if repeated:
                    frames.append(left_out(frame, "Previous line repeated %d more time%s" % (repeated, "s" if repeated > 1 else "")))
            if len(frames) > len(told.stack):
                told.stack = Stack(frames)
            level += (told.__cause__, error.__cause__), (told.__context__, error.__context__)
            level += zip(getattr(told, "exceptions", None) or (), members_of(error)[:SHOWN])

    gaps, back = {}, []
    linecache.cache[path] = sum(map(len, lines)), None, lines, path  # the file may be gone, or say another encoding
    lazycache = getattr(linecache, "lazycache", None)
    # The main program's loader gives its source for every name: what the code has compiled itself would be shown with the main program's lines.
    linecache.lazycache = lambda name, names: bool(lazycache) and (names or {}).get("__name__") != "__main__" and lazycache(name, names)
    try:
        shorten(error, gaps, back)
        told = traceback.TracebackException(type(error), error, error.__traceback__)
        mark(told, error)
        here = rename(told, path, shown, set())
    finally:
        linecache.lazycache = lazycache
        for e, tb, cause, context, suppressed in back:
            e.__traceback__, e.__cause__, e.__context__, e.__suppress_context__ = tb, cause, context, suppressed
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
        for tb, before, repeated in shown_of(error.__traceback__):
            code, number = tb.tb_frame.f_code, tb.tb_lineno
            mine = code.co_filename == path
            if before:
                text += "  [%s]\n" % before
            if mine or not is_library(code.co_filename):
                text += '  File "%s", line %d, in %s\n' % (shown if mine else code.co_filename, number, code.co_name)
            if mine:
                here = number
                if 0 < number <= len(lines):
                    text += "    " + lines[number - 1].strip() + "\n"
            if repeated and (mine or not is_library(code.co_filename)):
                text += "  [Previous line repeated %d more time%s]\n" % (repeated, "s" if repeated > 1 else "")
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
