# The reply: a description and a value, both JSON, in the shared memory.

import posix, sys, _json
from itertools import chain

from . import memory, name_of
from .constants import REPLY_VALUE, WARN_INEXACT, WORD_ABOUT, WORD_COMMITTED, WORD_REQUEST, WORD_VALUE

make_encoder, quote = _json.make_encoder, _json.encode_basestring_ascii
digits = getattr(sys, "get_int_max_str_digits", int("4300").__int__)
scalars = frozenset((int, str, bool, float, type(None)))
containers = frozenset((list, dict))
plain = scalars | containers
texts = frozenset((str,))


def refuse(value):
    raise TypeError


def encode(value):
    return "".join(make_encoder({}, refuse, quote, None, ":", ",", False, False, False)(value, 0))


def simple(value, most):
    """Whether the C encoder represents the value exactly: only types that JSON has, strings as keys, not
    nested too deeply and not circular."""
    level = [value]
    for depth in range(60):
        most -= sum(map(len, level))
        if most < 0:
            return False
        dicts = [v for v in level if type(v) is dict]
        if not texts.issuperset(map(type, chain.from_iterable(dicts))):
            return False
        lists = [v for v in level if type(v) is list] if dicts else level
        below = lambda: chain(chain.from_iterable(lists), chain.from_iterable(map(dict.values, dicts)))
        types = set(map(type, below()))  # a list might be as large as the value
        if not types <= plain:
            return False
        if not types & containers:
            return True
        level = [v for v in below() if type(v) in containers]
    return False


def put(about, value="", most=0):
    """Writes the reply, two texts in ASCII, into the shared memory. about can be what a text is encoded
    from. If the value has no room, only most bytes of it are written, and one more."""
    if posix.getpid() != memory.process:
        return
    if type(about) is not str:
        about = encode(about)
    words, space = memory.words, memory.space
    at = words[WORD_REQUEST]
    if at + len(about) + len(value) > len(space):
        about, value = '{"kind":"%s"}' % REPLY_VALUE, value[:most + 1]  # the launcher believes only what it can measure
    if len(value) > 1 << 18:
        try:
            space.madvise(23, at & -4096, len(value))  # MADV_POPULATE_WRITE: all pages at once, instead of a fault for each
        except Exception:  # before Linux 5.14
            pass
    for part in about, value:
        for i in range(0, len(part), 1 << 16):  # in pieces: there may be no memory for a whole copy
            piece = part[i:i + (1 << 16)].encode("ascii")
            space[at:at + len(piece)] = piece
            at += len(piece)
    words[WORD_ABOUT], words[WORD_VALUE] = len(about), len(value)
    words[WORD_COMMITTED] = 1


def reply(request, value, kind=REPLY_VALUE):
    """Replies with a value. The reserve is freed only where that is needed: a kept interpreter has to get it again."""
    try:
        done = reply_plainly(request, value, kind)
    except MemoryError:
        memory.reserve.close()
        done = reply_plainly(request, value, kind)
    if done:
        return
    memory.reserve.close()
    most = request["most"]
    about = {"kind": kind, "type": name_of(type(value))}
    try:
        from .values import value as described
    except Exception as e:
        about["warnings"] = [[WARN_INEXACT, "result: reading it failed with " + name_of(type(e))]]
        put(about, encode("<%s object>" % name_of(type(value))), most)
        return
    put(about, described(value, request["result_format"], most, about, encode), most)


def reply_plainly(request, value, kind):
    """Replies with a value that JSON expresses exactly, and tells whether it has. Nothing of the code's runs here."""
    if request["result_format"] != "plain" or not 0 < digits() <= 4300:  # the launcher does not accept longer numbers
        return False
    most = request["most"]
    try:
        if type(value) in scalars or type(value) in containers and simple(value, most):
            raw = encode(value)
            if "\\ud" not in raw:  # else there is a surrogate, which may be a lone one
                put({"kind": kind, "type": name_of(type(value))}, raw, most)
                return True
    except (ValueError, TypeError, RecursionError):
        pass
    return False


def finish(request, names, kind):
    """Replies with the variable result of a program that has ended."""
    wanted = request["result_from"]
    if wanted == "none" or "result" not in names:
        put('{"kind":"%s","absent":%s}' % (kind, "true" if wanted == "auto" else "false"), "null")
    else:
        reply(request, names["result"], kind)
