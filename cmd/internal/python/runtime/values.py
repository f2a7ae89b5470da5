# JSON for a value that is not plain JSON. No value and no method of a value can make the reply
# fail: what cannot be read becomes a text, with a warning that says where.

import sys

from . import name_of, own
from .before import loaded
from .constants import WARN_CIRCULAR, WARN_INEXACT, WARN_TRUNCATED

LARGEST = 2**53 - 1
DEPTH = 64
DIGITS = 4300  # of a number in JSON, the default limit of Python
TEXT = 65536  # bytes of one str() of an object, in UTF-8
NAMED = 10  # warnings of one kind that name their path


Mapping = (loaded.get("_collections_abc") or own("_collections_abc")).Mapping
ABSENT = object()


class TooLarge(Exception):
    pass


PASSED = TooLarge, MemoryError, KeyboardInterrupt  # limits and signals; every other exception concerns the value only


class Converter:
    """Converts any value to lists, dicts with string keys and scalars of JSON."""

    def __init__(self, form, most):
        self.tagged = form == "tagged"
        self.naming = False  # a key is being made: it is text in any case
        self.left = most
        self.above = []  # the containers around the value; not their id(), which calls audit hooks
        self.warnings = []
        self.counts = {}
        self.text = None  # str() of the whole value, if the JSON does not represent it exactly

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
            self.warn(WARN_INEXACT, path, what)

    def string(self, value, path):
        try:
            text = str.__str__(str(value))
        except PASSED:
            raise
        except BaseException as e:
            self.warn(WARN_INEXACT, path, "str() failed with " + name_of(type(e)))
            return "<%s object>" % name_of(type(value))
        text = self.whole(text, path)
        cut = text[:TEXT].encode("utf-8")[:TEXT].decode("utf-8", "ignore")
        if len(cut) < len(text):
            self.warn(WARN_TRUNCATED, path, "text of %d characters cut to %d" % (len(text), len(cut)))
        return cut

    def whole(self, text, path):
        """The text without lone surrogates, which readers of JSON refuse or damage."""
        try:
            text.encode("utf-8")
            return str.__str__(text)
        except UnicodeEncodeError:
            self.warn(WARN_INEXACT, path, "lone surrogates replaced by U+FFFD")
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def convert(self, v, path, depth=0):
        self.left -= 1
        if self.left < 0:
            raise TooLarge
        try:
            return self.exact(v, path, depth)
        except PASSED:
            raise
        except BaseException as e:  # raised by a method of the value: even sys.exit() ends nothing here
            self.warn(WARN_INEXACT, path, "reading it failed with " + name_of(type(e)))
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
            self.warn(WARN_TRUNCATED, path, "nested deeper than %d levels" % DEPTH)
            return None
        if any(v is x for x in self.above):
            self.warn(WARN_CIRCULAR, path, "a circular reference, replaced by null")
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
                return v  # the launcher warns of it
        except ValueError:  # the encoder would fail, too
            pass
        if path == "result":
            self.text = text[:TEXT]
        else:
            self.warn(WARN_INEXACT, path, "an integer of %d digits, as text" % len(text.lstrip("-")))
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
        """Converts single values of the standard library, NumPy and pandas, if their module is loaded: else
        the value cannot be one of them."""
        loaded = sys.modules.get
        if loaded("numpy") is not None or loaded("pandas") is not None:
            from .tables import scalar

            found = scalar(self, v, path)
            if found is not NotImplemented:
                return found
        datetime = loaded("datetime")
        if datetime is not None:
            for tag, kind in (("$datetime", "datetime"), ("$date", "date"), ("$time", "time")):
                if isinstance(v, getattr(datetime, kind, ())):
                    if self.tagged:
                        return {tag: v.isoformat()}
                    self.inexact(v, path, "a " + kind + ", as ISO 8601 text")
                    return v.isoformat()
            if isinstance(v, getattr(datetime, "timedelta", ())) and self.tagged and not getattr(v, "nanoseconds", 0):  # those of pandas have them
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
        """Converts NaT and NA: not a time, not available."""
        if self.naming:
            return self.string(v, path)
        if self.tagged:
            return self.named(v, path)
        self.inexact(v, path, "%s, replaced by null" % self.string(v, path))
        return None

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
        if sys.modules.get("numpy") is not None or sys.modules.get("pandas") is not None:
            from .tables import table

            found = table(self, v, path, depth)
            if found is not NotImplemented:
                return found
        return self.thing(v, path)

    def thing(self, v, path):
        """Converts a value of any other type."""
        kind = name_of(type(v))
        for method, undone in ("__await__", "awaited"), ("__next__", "consumed"), ("__anext__", "consumed"):
            if hasattr(type(v), method):  # its str() does not show what it would give
                self.warn(WARN_INEXACT, path, "an object of type %s, as its str(): it was not %s" % (kind, undone))
                break
        else:
            undone = None
        if self.tagged:
            return self.named(v, path)
        text = self.string(v, path)
        if path == "result":
            self.text = text
        elif undone is None:
            self.warn(WARN_INEXACT, path, "an object of type %s, as its str()" % kind)
        return text

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
                self.warn(WARN_INEXACT, "%s.%s" % (path, name), "a second key of this name, as %s#%d" % (name, n))
                name = "%s#%d" % (name, n)
            out[name] = self.convert(x, "%s.%s" % (path, name) if name.isidentifier() else "%s[%s]" % (path, json_name(name)), depth)
        return out

    def key(self, k, path):
        """The key as text, written as the same value is."""
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


def json_name(name):
    return '"%s"' % ascii(name)[1:-1].replace('"', '\\"')


def digits(v):
    """The decimal digits of any integer. Newer versions of Python refuse more than 4300."""
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
            from .pristine import undisturbed

            b2a_base64 = undisturbed(own, "binascii").b2a_base64
            to_base64 = lambda octets: b2a_base64(octets, newline=False).decode()
        except Exception:  # for example, no descriptor is left for the import
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
    """The JSON of a value. Completes its description in about."""
    converter = Converter(form, most)
    try:
        raw = encode(converter.convert(v, "result"))
    except TooLarge:
        return " " * (most + 1)  # each value takes at least a byte; the launcher believes only what it can measure
    if converter.text is not None:
        about["text"] = converter.text
    for code, n in converter.counts.items():
        if n > NAMED:
            converter.warnings.append([code, "and %d more of these" % (n - NAMED)])
    about["warnings"] = converter.warnings
    return raw
