"""The Python side of the gateway client that stands in for the real one: a request a line, a reply a line.

The client writes this file into its temporary directory and starts it with `python -u FILE`.
"""
import ast
import base64
import contextlib
import datetime
import decimal
import importlib
import io
import json
import math
import os
import platform
import resource
import rlcompleter
import sys
import traceback


def plain(value):
    """The value as JSON holds it."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(element) for key, element in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(element) for element in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    return str(value)


def execute(request):
    names = dict(request.get("variables") or {}, __name__="__main__")
    exec(compile(request["code"], "main.py", "exec"), names)
    return names["result"] if "result" in names else printed()


def evaluate(request):
    return eval(compile(request["expression"], "main.py", "eval"), dict(request.get("variables") or {}))


def call_module(request):
    function = getattr(importlib.import_module(request["module"]), request["function"])
    return function(*request.get("args") or [], **request.get("kwargs") or {})


def check_syntax(request):
    try:
        ast.parse(request["code"])
    except SyntaxError as e:
        return {"errors": [{"line": e.lineno, "column": e.offset, "message": e.msg, "severity": "error"}]}
    return {"errors": []}


def get_completions(request):
    names = {}
    lines = request["code"].splitlines()
    with contextlib.suppress(Exception):
        exec("\n".join(line for line in lines if line.startswith("import ")), names)
    word = lines[request["line"] - 1][:request["column"]].split()[-1]
    found, completer = [], rlcompleter.Completer(names)
    while completer.complete(word, len(found)):
        found.append(completer.complete(word, len(found)))
    texts = [text.rpartition(".")[2].rstrip("()") for text in found]
    return {"completions": [{"text": text, "type": "name", "complete": text} for text in texts], "count": len(texts)}


def version(request):
    major, minor, micro = sys.version_info[:3]
    return {"version": sys.version, "version_info": {"major": major, "minor": minor, "micro": micro},
            "executable": sys.executable, "platform": platform.platform()}


def list_modules(request):
    return sorted(set(sys.builtin_module_names) | set(getattr(sys, "stdlib_module_names", ())))


def ping(request):
    return "pong"


def clear_globals(request):
    return True


COMMANDS = {function.__name__: function for function in
            (execute, evaluate, call_module, check_syntax, get_completions, version, list_modules, ping, clear_globals)}


def printed():
    """What the request has printed so far; nothing is null."""
    return sys.stdout.getvalue() or None


def answer(request):
    out = io.StringIO()
    reply = {"success": False}
    with contextlib.redirect_stdout(out):
        try:
            reply = {"success": True, "result": plain(COMMANDS[request.get("command")](request))}
        except Exception as e:
            text = str(e)
            reply["error"] = type(e).__name__ + (": " + text if text else "")
            reply["traceback"] = traceback.format_exc()
    if out.getvalue():
        reply["output"] = out.getvalue()
    return reply


def main():
    memory = int(os.environ["PYTHON3_MAX_MEMORY_MB"]) << 20
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    cpu = int(os.environ["PYTHON3_MAX_CPU_SECONDS"])
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    print('{"status":"ready"}', flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if request.get("command") == "shutdown":
            break
        print(json.dumps(answer(request)), flush=True)


main()
