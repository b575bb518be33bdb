//go:build linux

package faults_test

import (
	"bufio"
	"bytes"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // to look at the database
	_ "modernc.org/sqlite"             // to look at the file

	_ "github.com/belfryhq/belfry/internal/app" // of the program: go test keeps no result of another one
	"github.com/belfryhq/belfry/internal/testdb"
)

// binary is the program, built once for all tests.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "belfry-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "belfry")
	// More flags, for example -race, show faults of another sort.
	args := append([]string{"build", "-o", binary}, strings.Fields(os.Getenv("BELFRY_TEST_BUILD_FLAGS"))...)
	build := exec.Command("go", append(args, "github.com/belfryhq/belfry/cmd/belfry")...)
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the program: %v\n%s\n", err, out)
		return 1
	}
	// The tests mostly wait, for leases and processes. Each has up to three of
	// those and what loads them: more than a few at once would test the machine.
	if err := flag.Set("test.parallel", strconv.Itoa(min(runtime.GOMAXPROCS(0), 4))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := testdb.Wrap(m).Run()
	printAccounts(os.Stdout)
	return code
}

const (
	rootKey   = "a-root-key-for-these-tests"
	secretKey = "kVqZ9lN2hRz0m8aFJ3uYxg5tQwB7cDsE1pLoKiHnMjU="
)

// patience is how long a thing may take on a machine that does much else. A
// long run gathers more, to be worked off and to be read at its end.
var patience = 60*time.Second + soak/10

// home is what outlives a process: its data and its configuration.
type home struct {
	t   *testing.T
	env []string
	dir string
	// binary is the program; empty = the one of all tests.
	binary string
	// Where to look at the database past the program.
	driver, dsn string
}

// newHome is a home in a folder of its own, with more settings as NAME=value.
func newHome(t *testing.T, settings ...string) *home {
	t.Helper()
	return homeIn(t, t.TempDir(), settings...)
}

func homeIn(t *testing.T, dir string, settings ...string) *home {
	h := &home{t: t, dir: dir, driver: "sqlite", dsn: "file:" + filepath.Join(dir, "belfry.db") + "?_pragma=query_only(1)&_pragma=busy_timeout(10000)"}
	h.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + os.TempDir(),
		"BELFRY_LISTEN=127.0.0.1:0", "BELFRY_DATA_DIR=" + dir, "BELFRY_BOOTSTRAP_KEY=" + rootKey, "BELFRY_OUTBOUND_ALLOW=127.0.0.0/8",
	}, settings...)
	for _, s := range settings {
		if url, ok := strings.CutPrefix(s, "BELFRY_DATABASE="); ok {
			h.driver, h.dsn = "pgx", url
		}
	}
	return h
}

// onPostgres are the settings for a database of its own.
func onPostgres(url string) []string {
	return []string{"BELFRY_DATABASE=" + url, "BELFRY_SECRET_KEY=" + secretKey}
}

// process is one run of the program.
type process struct {
	t       *testing.T
	home    *home
	cmd     *exec.Cmd
	url     string        // set once up is closed
	up      chan struct{} // closed when it listens
	done    chan struct{} // closed when it has ended
	spawned time.Time

	mu  sync.Mutex
	log bytes.Buffer
}

var (
	listening = regexp.MustCompile(`msg=listening url=(\S+)`)
	usual     = regexp.MustCompile(`(?m)^.* msg=(attempt|request|"plan pages not applied") .*\n`)
	disaster  = regexp.MustCompile(`(?m)^(panic:|fatal error:|WARNING: DATA RACE)|msg="panic|stack=`)
)

// spawn starts the program and does not wait for it.
func (h *home) spawn(args ...string) *process {
	h.t.Helper()
	p := &process{t: h.t, home: h, up: make(chan struct{}), done: make(chan struct{}), spawned: time.Now()}
	program := h.binary
	if program == "" {
		program = binary
	}
	p.cmd = exec.Command(program, append([]string{"serve"}, args...)...)
	p.cmd.Env, p.cmd.Dir = h.env, h.dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	logs, err := p.cmd.StderrPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the parent-death signal belongs to this thread; it is never given back
		defer close(p.done)
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.read(logs)
			_ = p.cmd.Wait() // the exit code is asked for where it matters
		}
	}()
	if err := <-started; err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		var waits string
		if h.t.Failed() {
			waits = p.whereabouts()
		}
		_ = p.cmd.Process.Kill()
		<-p.done
		text, _, _ := strings.Cut(p.logged(), atItsEnd)
		if disaster.MatchString(text) {
			h.t.Errorf("the program came to grief:\n%s", last(text, 20_000))
		} else if h.t.Failed() {
			unusual := usual.ReplaceAllString(text, "")
			h.t.Logf("process %d: what is not usual in its log, and what it was at:\n%s\n%s", p.cmd.Process.Pid, last(unusual, 2000), waits)
		}
	})
	return p
}

func (p *process) read(logs io.Reader) {
	lines := bufio.NewReader(logs)
	for {
		line, err := lines.ReadString('\n')
		p.mu.Lock()
		if p.log.Len() > 8<<20 {
			p.log.Next(4 << 20)
		}
		p.log.WriteString(line)
		p.mu.Unlock()
		if m := listening.FindStringSubmatch(line); m != nil {
			p.url = m[1]
			close(p.up)
		}
		if err != nil {
			return
		}
	}
}

func (p *process) logged() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// whereabouts ends the process, which tells at the end what each goroutine was
// at: how many were at the same, the deepest two of our functions first. What a
// process of the test said before is left out.
func (p *process) whereabouts() string {
	if p.cmd.Process.Signal(syscall.SIGQUIT) != nil {
		return "" // it has ended
	}
	select {
	case <-p.done:
	case <-time.After(5 * time.Second): // halted
		return ""
	}
	_, dump, _ := strings.Cut(p.logged(), atItsEnd)
	counts := map[string]int{}
	for g := range strings.SplitSeq(dump, "\n\n") {
		state := goroutine.FindStringSubmatch(g)
		if frames := ours.FindAllStringSubmatch(g, 2); state != nil && len(frames) > 0 {
			at := frames[0][1]
			if len(frames) > 1 {
				at += " < " + frames[1][1]
			}
			counts[at+" ["+state[1]+"]"]++
		}
	}
	var b strings.Builder
	for _, at := range slices.Sorted(maps.Keys(counts)) {
		line := fmt.Sprintf("%d %s\n", counts[at], at)
		if _, said := whereSaid.LoadOrStore(p.t.Name()+line, true); !said {
			b.WriteString(line)
		}
	}
	return b.String()
}

// atItsEnd begins what a process tells at its end when it is asked where it was.
const atItsEnd = "\nSIGQUIT: "

var (
	goroutine = regexp.MustCompile(`^goroutine \d+ .*\[(.*)\]:`)
	ours      = regexp.MustCompile(`(?m)^github\.com/belfryhq/belfry/(?:internal|cmd)/(\S+)\(`)
	whereSaid sync.Map // what whereabouts has said
)

func last(text string, n int) string { return text[max(0, len(text)-n):] }

// start starts the program and waits until it listens.
func (h *home) start(args ...string) *process {
	h.t.Helper()
	p := h.spawn(args...)
	select {
	case <-p.up:
	case <-p.done:
		h.t.Fatalf("the program ended with %d:\n%s", p.cmd.ProcessState.ExitCode(), last(p.logged(), 3000))
	case <-time.After(patience):
		h.t.Fatalf("the program does not listen:\n%s", last(p.logged(), 3000))
	}
	return p
}

// refused starts the program, which must end with 1 and say all of words.
func (h *home) refused(words ...string) {
	h.t.Helper()
	p := h.spawn()
	if code := p.exit(); code != 1 {
		h.t.Errorf("exit code %d, want 1", code)
	}
	for _, w := range words {
		if !strings.Contains(p.logged(), w) {
			h.t.Errorf("not said: %q in\n%s", w, last(p.logged(), 2000))
		}
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("signal %v: %v", s, err)
	}
}

// kill is kill -9; it returns when the process is no more.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	p.exit()
}

// exit waits for the end and gives the exit code, -1 for a signal's.
func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("the process does not end:\n%s", last(p.logged(), 3000))
	}
	return p.cmd.ProcessState.ExitCode()
}

// alive fails the test when the process has ended.
func (p *process) alive() {
	p.t.Helper()
	select {
	case <-p.done:
		p.t.Fatalf("the process died (%v):\n%s", p.cmd.ProcessState, last(p.logged(), 5000))
	default:
	}
}

// answer is what a call got.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// problem is the answer as problem+json; the test fails when it is none.
func (a *answer) problem(t *testing.T) (p struct {
	Type, Title, Detail string
	Status              int
	Errors              []struct{ Pointer, Parameter, Message string }
}) {
	t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("status %d is no problem+json but %q: %s", a.status, got, a.body[:min(len(a.body), 300)])
		return p
	}
	if err := json.Unmarshal(a.body, &p); err != nil || p.Status != a.status || p.Type == "" || p.Title == "" || p.Detail == "" {
		t.Errorf("not a whole problem (%v): %s", err, a.body)
	}
	return p
}

// client is for calls that are not load.
var client = &http.Client{Timeout: patience}

// do makes a call with the root key and reads the whole answer.
func do(c *http.Client, method, url, contentType string, body io.Reader) (*answer, error) {
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+rootKey)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	resp, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return &answer{status: resp.StatusCode, header: resp.Header, body: raw}, nil
}

// call is a call that must succeed; out may be nil.
func (p *process) call(method, path string, in, out any) {
	p.t.Helper()
	var body io.Reader
	contentType := ""
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			p.t.Fatal(err)
		}
		body, contentType = bytes.NewReader(raw), "application/json"
	}
	a, err := do(client, method, p.url+path, contentType, body)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	if a.status >= 300 {
		p.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	if out != nil {
		if err := json.Unmarshal(a.body, out); err != nil {
			p.t.Fatalf("%s %s: %v in %s", method, path, err, a.body)
		}
	}
}

// list reads all pages of a list.
func list[T any](p *process, path string) []T {
	p.t.Helper()
	var all []T
	after := ""
	for {
		var page struct {
			Items []T
			Next  string
		}
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		p.call(http.MethodGet, path+sep+"limit=1000&after="+after, nil, &page)
		all = append(all, page.Items...)
		if after = page.Next; after == "" {
			return all
		}
	}
}

// gauge reads a metric without labels.
func (p *process) gauge(name string) float64 {
	p.t.Helper()
	a, err := do(client, http.MethodGet, p.url+"/metrics", "", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	for line := range strings.Lines(string(a.body)) {
		if v, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			if err != nil {
				p.t.Fatal(err)
			}
			return f
		}
	}
	p.t.Fatalf("no metric %s", name)
	return 0
}

// await asks until done says yes; state is what is said when it never does.
func await(t *testing.T, within time.Duration, what string, done func() (ok bool, state string)) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, state := done()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("after %v not %s: %s", within, what, state)
		}
	}
}

// idle waits until nothing is left to plan or to send. It asks the database:
// figures kept in memory are for operators, who need them quick, not exact.
func (p *process) idle() {
	p.t.Helper()
	db, err := sql.Open(p.home.driver, p.home.dsn)
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	reached := false
	defer func() {
		if reached {
			return
		}
		for _, state := range []string{"scheduled", "retrying"} {
			if a, err := do(client, http.MethodGet, p.url+"/v1/deliveries?limit=10&state="+state, "", nil); err == nil {
				p.t.Logf("%s: %s", state, a.body)
			}
		}
	}()
	await(p.t, patience, "idle", func() (bool, string) {
		p.alive()
		var plans, sends int
		if err := db.QueryRow("SELECT (SELECT count(*) FROM plans), (SELECT count(*) FROM deliveries WHERE state < 3)").Scan(&plans, &sends); err != nil {
			return false, err.Error()
		}
		return plans == 0 && sends == 0, fmt.Sprintf("%d plans and %d deliveries are open, %v of them in memory", plans, sends, p.gauge("belfry_deliveries_in_memory"))
	})
	reached = true
}
