# How much of an exception is shown: how many frames, and how many of the exceptions that come with
# it.

from .before import loaded

# Formatting a frame takes 0.1 ms, and a recursion can be very deep.
REPEATED = 3  # entries of a traceback for the same line in a row, as Python shows them
FRAMES = 1000  # entries of one traceback, half of them from its beginning
CHAINED = 100  # exceptions in a chain
SHOWN = 15  # of a group, as Python shows them
GROUP = vars(loaded["builtins"]).get("BaseExceptionGroup", ())


def members_of(error):
    return error.exceptions if isinstance(error, GROUP) else ()


def shown_of(tb):
    """The entries of a traceback that are shown: for each its traceback object, a text about entries that
    are left out before it, and how often it repeats."""
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
    """Shortens long tracebacks of an exception and of those that come with it, and ends long chains.
    Adds the gaps, by the exception's id, to gaps, and what has to be restored to back."""
    level, met, told = [error], {id(error)}, 0
    while level:
        e = level.pop()
        told += 1
        was = e, e.__traceback__, e.__cause__, e.__context__, e.__suppress_context__
        entries = shown_of(was[1])
        members = members_of(e)
        for x in members[SHOWN:]:  # traceback only counts these, but it looks at them
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
