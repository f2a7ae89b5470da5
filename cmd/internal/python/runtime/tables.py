# Values of NumPy and pandas. Neither is imported here: a value of theirs means that they are
# loaded. c is the converter (values.py).

import sys

from .constants import WARN_INEXACT
from .values import ABSENT, json_name

NAMES = 1000  # characters of a list of names


def scalar(c, v, path):
    """Converts a single value; NotImplemented: it is not one of theirs."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and (v is getattr(pandas, "NaT", ABSENT) or v is getattr(pandas, "NA", ABSENT)):
        return c.none(v, path)
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(v, getattr(numpy, "generic", ())):
        return NotImplemented
    item = tuple([v[name] for name in v.dtype.names]) if v.dtype.names else v.item()
    if v.dtype.kind in "mM":
        if item is None:
            return c.none(v, path)
        if isinstance(item, int):  # it has nanoseconds, which the standard library does not
            return moment(c, v, path)
    return NotImplemented if type(item) is type(v) else c.convert(item, path)


def moment(c, v, path):
    text = c.string(v, path)
    if v.dtype.kind == "m":
        if c.tagged:
            return c.named(v, path)
        c.inexact(v, path, "a timedelta64, as text")
        return text
    if c.tagged:
        return {"$datetime": text}
    c.inexact(v, path, "a datetime64, as ISO 8601 text")
    return text


def table(c, v, path, depth):
    """Converts what holds values; NotImplemented: it is not one of theirs."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and isinstance(v, getattr(numpy, "ndarray", ())):
        return array(c, v, path, depth, numpy)
    if pandas is not None:
        if isinstance(v, getattr(pandas, "DataFrame", ())):
            return frame(c, v, path, depth)
        if isinstance(v, getattr(pandas, "Series", ())):
            return series(c, v, path, depth)
        if isinstance(v, getattr(pandas, "Index", ())):
            return c.convert(v.tolist(), path, depth)
        if isinstance(v, getattr(sys.modules.get("pandas.api.extensions"), "ExtensionArray", ())):
            plain = c.convert(list(v), path, depth)
            return {"$ndarray": plain, "dtype": str(v.dtype), "shape": [len(v)]} if c.tagged else plain
    return NotImplemented


def array(c, v, path, depth, numpy):
    if isinstance(v, getattr(numpy, "matrix", ())):  # whose rows are matrices again
        v = v.A
    # Times one by one: the array itself makes numbers of times with nanoseconds.
    plain = c.convert(scalars(v) if v.dtype.kind in "mM" or v.dtype.names else v.tolist(), path, depth)
    masked = isinstance(v, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ()))
    if c.tagged:
        out = {"$ndarray": plain, "dtype": str(v.dtype), "shape": list(v.shape)}
        if masked:
            out["mask"] = c.convert(numpy.ma.getmaskarray(v).tolist(), path + ".mask", depth)
        return out
    if masked and b"\1" in numpy.ma.getmaskarray(v).tobytes():
        c.warn(WARN_INEXACT, path, "masked values, replaced by null")
    return plain


def frame(c, v, path, depth):
    """The records begin with the labels of the rows, so that a group keeps its label. They do not if the
    index only counts the rows. An index that has a name is never taken for one that only counts."""
    columns = v.columns.tolist()
    data = [v.iloc[:, i].tolist() for i in range(len(columns))]  # by position: names may repeat
    if c.tagged:
        rows = list(map(list, zip(*data))) if data else [[] for _ in range(len(v.index))]
        parts = {"columns": columns, "index": v.index.tolist(), "data": rows}
        for part, index in ("index_names", v.index), ("column_names", v.columns):
            if any(name is not None for name in index.names):
                parts[part] = list(index.names)
        return {"$dataframe": {part: c.convert(x, path + "." + part, depth) for part, x in parts.items()}}
    if not counts(v.index):
        columns, data = level_names(v.index, v.columns) + columns, levels(v.index) + data
    names = distinct(c, columns, path, "column")
    if not len(v.index):
        c.warn(WARN_INEXACT, path, "a frame without rows, as []; its columns: " + (", ".join(names)[:NAMES] or "none"))
    return c.convert([dict(zip(names, row)) for row in zip(*data)] if data else [{} for _ in v.index], path, depth)


def series(c, v, path, depth):
    values = v.tolist()
    if c.tagged:
        out = {"$series": c.convert(values, path, depth), "index": c.convert(v.index.tolist(), path, depth)}
        if any(name is not None for name in v.index.names):
            out["index_names"] = c.convert(list(v.index.names), path, depth)
        return out
    if counts(v.index):
        return c.convert(values, path, depth)
    if v.index.is_unique:
        return c.convert(dict(zip(distinct(c, v.index.tolist(), path, "label"), values)), path, depth)
    names = distinct(c, level_names(v.index, ()) + ["value"], path, "column")
    return c.convert([dict(zip(names, row)) for row in zip(*levels(v.index), values)], path, depth)


def distinct(c, labels, path, what):
    """The labels as different names."""
    labels = [c.key(x, path) for x in labels]
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
            c.warn(WARN_INEXACT, "%s[%s]" % (path, json_name(label)), "a second %s of this name, as %s" % (what, name))
        seen.add(name)
        names.append(name)
    return names


def counts(index):
    """Whether an index only counts: it has no name, and is 0, 1, 2 ..."""
    if is_multi(index) or index.name is not None:
        return False
    return not len(index) or index.dtype.kind in "iu" and not index.hasnans and [int(x) for x in index.tolist()] == list(range(len(index)))


def is_multi(index):
    return hasattr(index, "levels")  # also if it has a single level


def levels(index):
    if not is_multi(index):
        return [index.tolist()]
    return list(zip(*index.tolist())) or [()] * index.nlevels  # get_level_values would take a number as a name


def level_names(index, columns):
    """As reset_index names them."""
    if not is_multi(index):
        return [index.name if index.name is not None else "index" if "index" not in columns else "level_0"]
    return ["level_%d" % i if name is None else name for i, name in enumerate(index.names)]


def scalars(array):
    if array.ndim == 0:
        return tuple([array[name] for name in array.dtype.names]) if is_masked_record(array) else array[()]
    return [scalars(a) if is_masked_record(a) else a for a in array] if array.ndim == 1 else [scalars(a) for a in array]


def is_masked_record(array):
    return isinstance(array, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())) and array.dtype.names
