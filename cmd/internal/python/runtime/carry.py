# The request's variables: their names, and their way into workers of multiprocessing's. A worker
# that is not forked imports the code again, and would miss them; workers.py carries them, from the
# moment when something that starts such workers is imported.

from . import own
from .before import modules
from .imports import asked
from .memory import request

starters = frozenset(("multiprocessing.forkserver", "multiprocessing.popen_forkserver", "multiprocessing.popen_spawn_posix"))


def normalized(variables):
    """Code looks names up after NFKC."""
    if "".join(variables).isascii():
        return variables
    normalize = own("unicodedata").normalize
    return {normalize("NFKC", n): v for n, v in variables.items()}


def delay():
    """Waits for the import of a starter, unless a template has brought one."""
    if modules.keys().isdisjoint(starters):
        asked.update(dict.fromkeys(starters, carry))
    else:
        carry(None)


def carry(wanted):
    for name in starters:
        asked.pop(name, None)
    own("multiprocessing.spawn")  # which those import first of all
    spawn = modules["multiprocessing.spawn"]
    plain = spawn.get_preparation_data

    def get_preparation_data(name):
        if spawn.get_preparation_data is get_preparation_data:
            spawn.get_preparation_data = plain
            from .workers import carry_variables

            carry_variables(normalized(request()["variables"]))  # as the request has them, and not as the code has changed them since
        return spawn.get_preparation_data(name)

    spawn.get_preparation_data = get_preparation_data
