package python

import (
	_ "embed"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"sync"
	"unsafe"
)

// A module is a Python source of the runtime, with the moment when it is loaded: at the start of
// every run, later when it is needed, or in a template. runtime/__init__.py has the table of what
// each may import at its moment.
type module struct {
	moment, name, source string
}

const (
	atStart    = "start"
	later      = "later"
	inTemplate = "template"
)

//go:embed runtime/probe.py
var probeSource string

var (
	//go:embed runtime/__init__.py
	initSource string
	//go:embed runtime/awaiting.py
	awaitingSource string
	//go:embed runtime/before.py
	beforeSource string
	//go:embed runtime/carry.py
	carrySource string
	//go:embed runtime/completion.py
	completionSource string
	//go:embed runtime/constants.py
	constantsSource string
	//go:embed runtime/ending.py
	endingSource string
	//go:embed runtime/events.py
	eventsSource string
	//go:embed runtime/forgetting.py
	forgettingSource string
	//go:embed runtime/imports.py
	importsSource string
	//go:embed runtime/initprocess.py
	initprocessSource string
	//go:embed runtime/keep.py
	keepSource string
	//go:embed runtime/lazysite.py
	lazysiteSource string
	//go:embed runtime/memory.py
	memorySource string
	//go:embed runtime/messages.py
	messagesSource string
	//go:embed runtime/pages.py
	pagesSource string
	//go:embed runtime/practice.py
	practiceSource string
	//go:embed runtime/preloading.py
	preloadingSource string
	//go:embed runtime/pristine.py
	pristineSource string
	//go:embed runtime/program.py
	programSource string
	//go:embed runtime/replies.py
	repliesSource string
	//go:embed runtime/shortening.py
	shorteningSource string
	//go:embed runtime/spawned.py
	spawnedSource string
	//go:embed runtime/syscalls.py
	syscallsSource string
	//go:embed runtime/tables.py
	tablesSource string
	//go:embed runtime/template.py
	templateSource string
	//go:embed runtime/tracebacks.py
	tracebacksSource string
	//go:embed runtime/values.py
	valuesSource string
	//go:embed runtime/worker.py
	workerSource string
)

func modules() []module {
	return []module{
		{atStart, "__init__", initSource},
		{atStart, "constants", constantsSource},
		{atStart, "memory", memorySource},
		{atStart, "before", beforeSource},
		{atStart, "events", eventsSource},
		{atStart, "imports", importsSource},
		{atStart, "replies", repliesSource},
		{atStart, "ending", endingSource},
		{atStart, "program", programSource},

		{later, "lazysite", lazysiteSource},
		{later, "carry", carrySource},
		{later, "keep", keepSource},
		{later, "spawned", spawnedSource},
		{later, "values", valuesSource},
		{later, "tables", tablesSource},
		{later, "tracebacks", tracebacksSource},
		{later, "shortening", shorteningSource},
		{later, "pristine", pristineSource},
		{later, "awaiting", awaitingSource},
		{later, "completion", completionSource},

		{inTemplate, "template", templateSource},
		{inTemplate, "preloading", preloadingSource},
		{inTemplate, "messages", messagesSource},
		{inTemplate, "syscalls", syscallsSource},
		{inTemplate, "pages", pagesSource},
		{inTemplate, "practice", practiceSource},
		{inTemplate, "initprocess", initprocessSource},
		{inTemplate, "worker", workerSource},
		{inTemplate, "forgetting", forgettingSource},
	}
}

// startStub is what an interpreter is started with, as the argument of -c: it loads the runtime
// from a descriptor (probe.py has the layout) and starts it. Everybody can read a process's
// arguments; this one says nothing.
const startStub = "import marshal,posix,builtins;f,r=%d,posix.pread;h=r(f,16,0);n,l=int(h[:8]),int(h[8:]);c=marshal.loads(r(f,n,16));" + executeStub + "m.start(m,f,c,r(f,l,16+n))"

// templateStub is the same for a template: the descriptor, the length of the byte code, the first
// descriptor of a run, the one of its socket.
const templateStub = "import marshal,posix,builtins;f,r=%d,posix.pread;h=r(f,16,0);n,l=int(h[:8]),int(h[8:]);c=marshal.loads(r(f,n,16));c.update(marshal.loads(r(f,%d,16+n+l)));" +
	executeStub + "l=r(f,l,16+n);posix.close(f);m.start(m,%d,c,l,%d)"

// executeStub makes the package of the runtime, with built-in names of its own.
const executeStub = `m=type(posix)("py3run");vars(m)["__builtins__"]={**vars(builtins)};exec(c["__init__"],vars(m));`

// probeInput is what probe.py is given: its arguments, and the sources.
func probeInput() (args []string, stdin string) {
	var all strings.Builder
	for _, m := range modules() {
		args = append(args, m.moment, m.name, strconv.Itoa(len(m.source)))
		all.WriteString(m.source)
	}
	return args, all.String()
}

// sourcesHash names the runtime that cached byte code was made from. It only tells versions of
// py3run apart, at each start, and a checksum takes an eighth of the time of a SHA-256.
var sourcesHash = sync.OnceValue(func() string {
	sum, size := uint32(0), 0
	write := func(text string) { // not copied: that takes longer than the rest
		sum = crc32.Update(sum, crc32.IEEETable, unsafe.Slice(unsafe.StringData(text), len(text)))
		size += len(text)
	}
	write(probeSource)
	for _, m := range modules() {
		for _, text := range []string{"\x00", m.moment, m.name, m.source} {
			write(text)
		}
	}
	return fmt.Sprintf("%08x%08x", sum, size)
})
