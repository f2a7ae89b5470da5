# Workers of multiprocessing that are not forked import the code again, as __mp_main__.
# multiprocessing sends each of them data to prepare itself with, and the request's variables go
# along: unpickling them executes WORKER, before the worker imports the code. Nothing of these
# modules is loaded there.

import marshal

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
            data.pop("init_main_from_path", None)  # else the server itself would import the code, without the variables
        else:
            data["variables"] = Carried()
        return data

    spawn.get_preparation_data = get_preparation_data
    if worker:
        spawn.runpy = type(sys)("runpy")
        spawn.runpy.run_module = runpy.run_module
        spawn.runpy.run_path = lambda path, init_globals=None, run_name=None: runpy.run_path(path, marshal.loads(given), run_name)
"""


def carry_variables(variables):
    names = {"__name__": "py3run"}
    exec(WORKER, names)
    names["carry"](marshal.dumps(variables, 4), WORKER, False)
