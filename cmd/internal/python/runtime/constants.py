# Made from protocol.go and protocol_template.go by `go generate`: they say what each of these means.
# Do not edit.

# The interpreter finds five descriptors, at numbers that no file of the user's can get (sandbox.Spec.FirstFile)
FILE_CODE = 0
FILE_MEMORY = 1
FILE_CHILDREN = 2
FILE_GATE = 3
FILE_DUMP = 4
FILE_COUNT = 5

# A kept interpreter has one more, and at first as its standard input, too
FILE_PERIODS = 5

GATE_OPEN = 1
EXIT_NO_START = 125

# The shared memory
WORD_DROPPED = 0
WORD_IMPORTS = 1
WORD_COMMITTED = 2
WORD_ABOUT = 3
WORD_VALUE = 4
WORD_REQUEST = 5
WORD_START = 6
COUNTERS = 64
DISTINCT = 4000
TEXT_OFFSET = 16384
EVENTS_SIZE = 1048576

# Kinds of events
EVENT_DIRECT = "J"
EVENT_INDIRECT = "I"
EVENT_CONNECT = "C"
EVENT_BIND = "B"
EVENT_START = "P"
EVENT_START_CUT = "Q"
EVENT_WRITE = "W"
EVENT_APPEND = "A"
EVENT_DELETE = "D"
EVENT_MAKE_DIR = "M"
EVENT_READ = "R"

# Kinds of replies
REPLY_VALUE = "value"
REPLY_EXIT = "exit"
REPLY_ERROR = "error"

# Codes of the warnings that only the interpreter can give
WARN_INEXACT = "inexact_value"
WARN_CIRCULAR = "circular_value"
WARN_TRUNCATED = "truncated_value"

# Signals that make faulthandler write where all threads are
SIGNAL_WHERE = 63
SIGNAL_XCPU = 24

# The descriptors of a template and of its workers, which run nothing of the user's at these numbers
WORKER_CONTROL = 8
WORKER_OWN_PID = 9
WORKER_INIT = 10
WORKER_PROGRAM = 11
WORKER_GROUPS = 12
WORKER_RULESET = 20

# A message of a worker
MSG_FAILED = 1
MSG_MISSING = 2
MSG_ENDED = 3
MSG_READY = 6
STEP_GROUP = 1
LIFELINE_ENDED = 255
LIFELINE_STOP = 254
LIFELINE_GO = 253

# A syscall list (sandbox/syscalllist_linux.go)
LIST_COUNT = 0
LIST_RELOCATIONS = 1
LIST_RIGHTS = 2
LIST_HEAD = 4
LIST_CALL = 9
LIST_STEP_SHIFT = 8

# The lists of a template's set-up (sandbox.PoolKey.Setup), by who makes them
SETUP_START = 0
SETUP_BACK = 1
SETUP_INIT = 2
SETUP_PROGRAM = 3
SETUP_AFTER = 4

# The modes of a call
MODE_OPTIONAL = 1
MODE_QUIET = 2
MODE_WITH_PREV = 4
MODE_WANT_ONE = 8
MODE_IF_PREV = 16
MODE_TO_SEND = 32
MODE_ADD_RULE = 64
