# A run, from the shared memory to the end of the user's code.
#
# Objects of the user's are in local names only. The audit hook keeps these modules alive until the
# very end of the interpreter, and an object in a global name would die later than it does without
# us.

import faulthandler, gc, posix, sys, time, _imp, _warnings

from . import events, imports, interpreter_import, listen, memory, name_of, own, quietly
from .before import modules, remember
from .constants import (
    EXIT_NO_START, FILE_CHILDREN, FILE_CODE, FILE_COUNT, FILE_DUMP, FILE_GATE, FILE_MEMORY, GATE_OPEN, REPLY_ERROR, REPLY_EXIT, REPLY_VALUE,
    SIGNAL_XCPU, SIGNAL_WHERE, WORD_START)
from .ending import leave, prepare
from .replies import finish, put, reply

ONLY_AST, ITERABLE_COROUTINE = 0x400, 0x100  # PyCF_ONLY_AST, CO_ITERABLE_COROUTINE
FUTURES = 0x1ff0000  # the flags that `from __future__ import` sets in code
trees = False  # the types of syntax trees are there


def run(first, template=None):
    """Runs the job whose files begin at the descriptor first. A template stays in serve; the program of
    each worker returns from it."""
    remember()
    end = posix._exit
    if template is None:
        for fd in range(first, first + FILE_COUNT):
            posix.set_inheritable(fd, False)
        posix.close(first + FILE_CODE)
    else:
        imports.watch_imports(template.flagged)
        watch_faults(first)
        syntax_trees()
        end = template.serve()
    posix.register_at_fork(after_in_child=events.forked)
    memory.attach(first + FILE_MEMORY)
    events.pipe = first + FILE_CHILDREN
    listen()
    if template is None:
        watch_faults(first)

    request = memory.request()
    imports.path = request["path"]
    events.reads = request["reads"]
    import_path = request["import_path"]
    if template is None:
        printed = sys.stdout
        imports.watch_imports(request["flagged"])
        if request["lazy_site"]:
            from .lazysite import delay

            delay()
    else:
        printed = template.settle(request)
        import_path = import_path[:len(import_path) - template.ahead]  # the template has put the rest into sys.path
    sys.argv = request["argv"]
    sys.path[:0] = import_path
    if not printed.closed:
        printed.reconfigure(line_buffering=True)  # so that a kill loses no printed line
    names = None if request["kept"] else main_program(request)
    prepared = prepare(end)
    sys.addaudithook(events.hook)
    gc.freeze()  # objects from here on are the code's
    await_start(first + FILE_GATE)
    if template is not None:
        template.code_begins()
    if request["kept"]:
        from .keep import serve

        serve(first, template, prepared)
    code_starts()
    perform(request, names, prepared)


def code_starts():
    now = time.monotonic_ns()
    memory.words[WORD_START], memory.words[WORD_START + 1] = now & 0xFFFFFFFF, now >> 32


def watch_faults(first):
    """Has faults and the launcher's questions answered on the dump pipe, as soon as there is one at its number."""
    faulthandler.enable(file=first + FILE_DUMP)
    faulthandler.register(SIGNAL_WHERE, file=first + FILE_DUMP)
    faulthandler.register(SIGNAL_XCPU, file=first + FILE_DUMP)


def syntax_trees():
    """Has the types of all syntax trees (AST) made, once for all workers of a template."""
    global trees
    compile("", "", "exec", 0, True)
    trees = True


def await_start(gate):
    """Waits until the start record is durable. Before that, the user's code is not even compiled."""
    if posix.read(gate, 1) != bytes((GATE_OPEN,)):
        posix._exit(EXIT_NO_START)
    posix.close(gate)


def main_program(request):
    """Makes the module __main__, and returns its namespace."""
    main = type(sys)("__main__")
    names = main.__dict__
    if bind(request, names):
        from .carry import delay

        delay()
    if sys.version_info < (3, 14):
        names["__annotations__"] = {}
    modules["__main__"] = main
    return names


def bind(request, names):
    """Puts into the namespace what a request brings. Tells whether there are variables."""
    path, variables = request["path"], request["variables"]
    if variables:
        from .carry import normalized

        names.update(normalized(variables))
    names.update(__name__="__main__", __file__=path, __builtins__=modules["builtins"], __package__=None, __cached__=None,
                 __loader__=modules["_frozen_importlib_external"].SourceFileLoader("__main__", path))
    return bool(variables)


def perform(request, names, prepared):
    """Does what the request asks for, replies, and ends the process as the code ended."""
    failed = False
    try:
        execute(request, names)
    except SystemExit as asked:
        memory.reserve.close()
        if request["command"] == "execute" and posix.getpid() == memory.process:
            try:
                finish(request, names, REPLY_EXIT)
            except Exception:  # a value that cannot be encoded does not change how the program ended
                put('{"kind":"%s","absent":false}' % REPLY_EXIT, "null")
        leave(asked.code, prepared)
        raise
    except BaseException as error:
        memory.reserve.close()
        tell(error, request)
        failed = True
    leave(int(failed), prepared)
    if failed:
        raise SystemExit(1)


def execute(request, names):
    command, path = request["command"], request["path"]
    if command == "execute":
        code = request["code"]
        if type(code) is str and code[:1] == "\ufeff":  # Python skips it in files, too
            code = code[1:]
        if request["result_from"] == "last_expression":
            return reply(request, last_value(code, path, names))
        exec(compiled(code, path, "exec"), names)
        try:
            return finish(request, names, REPLY_VALUE)
        except MemoryError:
            if memory.reserve.closed:
                raise
            memory.reserve.close()  # here: without memory, even the call failed
            return finish(request, names, REPLY_VALUE)
    if command == "evaluate":
        return reply(request, eval(compiled(request["code"].lstrip(" \t"), path, "eval"), names))
    if command == "call_module":
        return reply(request, called(request))
    from .completion import commands

    return reply(request, commands[command](request))


def last_value(code, path, names):
    """Executes the code, and returns the value of its last statement, if that is an expression."""
    tree = compile(code, path, "exec", ONLY_AST, True)
    last = tree.body.pop() if tree.body and type(tree.body[-1]).__name__ == "Expr" else None
    body = compile(tree, path, "exec", 0, True)
    if last is not None:
        last = compile(own("_ast").Expression(last.value), path, "eval", body.co_flags & FUTURES, True)
    exec(body, names)
    return eval(last, names) if last is not None else None


def called(request):
    """Calls a function of a module, and returns what it gives."""
    interpreter_import(request["module"])  # an import of the user's
    call = sys.modules[request["module"]]
    for part in request["function"].split("."):
        call = getattr(call, part)
    value = call(*request["args"], **request["kwargs"])
    kind = type(value)
    if hasattr(kind, "__await__") or kind is type(x for x in ()) and value.gi_code.co_flags & ITERABLE_COROUTINE:
        from .awaiting import awaited

        value = awaited(value)
    return value


def compiled(source, path, mode):
    """Like compile(). The first compile() creates the types of all syntax trees (AST), which takes a
    sixth of an interpreter's start. exec and eval compile without these types, but as a file named
    "<string>". So this function calls them, stops them before the first instruction of the code, and
    corrects the name. A template and a kept interpreter have created the types."""
    if trees:
        return compile(source, path, mode, 0, True)
    code, scope = None, {}

    def stop(frame, event, arg):
        nonlocal code
        if frame.f_globals is scope:
            code = frame.f_code
            raise StopIteration

    # A file may name its coding in the first two lines. Codecs are Python code, which would be
    # traced.
    known = type(source) is str or b"coding" not in b"".join(source.split(b"\n", 2)[:2])
    if known and sys.gettrace() is None and hasattr(_warnings, "_filters_mutated"):
        filters = modules.get("warnings", _warnings).filters
        filters.insert(0, ("error", None, Warning, None, 0))  # else a warning would show that name
        _warnings._filters_mutated()
        try:
            sys.settrace(stop)
            (exec if mode == "exec" else eval)(source, scope)
        except KeyboardInterrupt:
            raise
        except BaseException:  # StopIteration, or an error that compile() raises again
            pass
        finally:
            sys.settrace(None)
            del filters[0]
            _warnings._filters_mutated()
    if code is None:
        return compile(source, path, mode, 0, True)
    _imp._fix_co_filename(code, path)
    return code


def tell(error, request):
    """Replies with an exception, and shows it on stderr if Python would."""
    about = {"kind": REPLY_ERROR, "type": name_of(type(error)), "memory": isinstance(error, MemoryError)}
    try:
        show = quietly(described, error, request, about)
    except BaseException:  # no memory, or an audit hook that refuses everything: reply with the least
        least = name_of(type(error))
        try:
            least = "%s: %s" % (least, str(error)[:4000])
            least = least.encode("utf-8", "replace").decode()
        except BaseException:
            pass
        about.setdefault("error", least)
        about.setdefault("traceback", "Traceback (most recent call last):\n" + least + "\n")
        show = lambda: sys.__excepthook__(type(error), error, error.__traceback__)
    put(about)
    if request["show"] or posix.getpid() != memory.process or sys.excepthook is not sys.__excepthook__:
        show()


def described(error, request, about):
    from .tracebacks import failure

    return failure(error, request, about)
