# The variables of a request: their names, and how they get into workers of multiprocessing. A
# worker that is not forked imports the code again, without the variables. As soon as the code
# imports a module that starts such workers, spawned.py sends the variables along.

from . import own
from .before import modules
from .imports import asked
from .memory import request

starters = frozenset(("multiprocessing.forkserver", "multiprocessing.popen_forkserver", "multiprocessing.popen_spawn_posix"))


def normalized(variables):
    """Variables under the names that Python looks up: it normalizes names in code to NFKC."""
    if "".join(variables).isascii():
        return variables
    normalize = own("unicodedata").normalize
    return {normalize("NFKC", n): v for n, v in variables.items()}


def delay():
    """Waits until the code imports a starter; in a template, one may be there already."""
    if modules.keys().isdisjoint(starters):
        asked.update(dict.fromkeys(starters, carry))
    else:
        carry(None)


def carry(wanted):
    for name in starters:
        asked.pop(name, None)
    own("multiprocessing.spawn")  # the starters import it first
    spawn = modules["multiprocessing.spawn"]
    plain = spawn.get_preparation_data

    def get_preparation_data(name):
        if spawn.get_preparation_data is get_preparation_data:
            spawn.get_preparation_data = plain
            from .spawned import carry_variables

            carry_variables(normalized(request()["variables"]))  # as they were in the request: the code may have changed its own
        return spawn.get_preparation_data(name)

    spawn.get_preparation_data = get_preparation_data
