package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"belfry": main})
}

// endsAtOnce is for the race detector, which else keeps every command for a
// second after its end, in case something goes on that is not waited for.
var endsAtOnce = os.Getenv("GORACE") + " atexit_sleep_ms=0"

// The scripts run the program as people do.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("GORACE", endsAtOnce)
			e.Values["servers"] = &servers{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"server": server,
			"stop":   stop,
			"follow": follow,
			"seen":   seen,
			"waits":  waits,
		},
		RequireExplicitExec: true,
	})
}

// exits runs a command that must end with a code: exits 2 belfry nonsense.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program [arguments]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		code = exit.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

// servers are the programs a script started.
type servers struct {
	running []*process
	tail    *following
}

type process struct {
	cmd  *exec.Cmd
	mu   sync.Mutex
	logs strings.Builder
	done chan error
}

var (
	urlOf = regexp.MustCompile(`msg=listening url=(\S+)`)
	keyOf = regexp.MustCompile(`(?m)^    (\S+)$`)
)

// server starts belfry serve in the background, waits until it listens, and
// sets BELFRY_SERVER; with a first key, BELFRY_KEY.
func server(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("a server that must fail is run with exec")
	}
	p := &process{cmd: belfry(ts, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...), done: make(chan error, 1)}
	// A file, not a pipe: what was printed before the server listens is in it
	// when it listens.
	out, err := os.CreateTemp("", "belfry-out-")
	ts.Check(err)
	defer func() { _ = out.Close(); _ = os.Remove(out.Name()) }()
	p.cmd.Stdout = out
	logs, err := p.cmd.StderrPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	list := ts.Value("servers").(*servers)
	list.running = append(list.running, p)
	ts.Defer(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
	})
	listening := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(logs)
		for lines.Scan() {
			p.mu.Lock()
			p.logs.WriteString(lines.Text() + "\n")
			p.mu.Unlock()
			if m := urlOf.FindStringSubmatch(lines.Text()); m != nil {
				listening <- m[1]
			}
		}
		p.done <- p.cmd.Wait()
		close(p.done)
	}()
	select {
	case url := <-listening:
		ts.Setenv("BELFRY_SERVER", url)
	case err := <-p.done:
		ts.Fatalf("the server ended: %v\n%s", err, p.log())
	case <-time.After(20 * time.Second):
		ts.Fatalf("the server does not listen\n%s", p.log())
	}
	printed, err := os.ReadFile(out.Name())
	ts.Check(err)
	if m := keyOf.FindStringSubmatch(string(printed)); m != nil {
		ts.Setenv("BELFRY_KEY", m[1])
	}
}

// belfry is the program with a script's environment.
func belfry(ts *testscript.TestScript, args ...string) *exec.Cmd {
	path, _, _ := strings.Cut(ts.Getenv("PATH"), string(os.PathListSeparator))
	cmd := exec.Command(filepath.Join(path, "belfry"), args...)
	cmd.Dir = ts.Getenv("WORK")
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GORACE", "BELFRY_SERVER", "BELFRY_KEY"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	return cmd
}

// following is a tail -f that runs.
type following struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
}

// follow starts belfry tail -f with arguments.
func follow(ts *testscript.TestScript, _ bool, args []string) {
	f := &following{cmd: belfry(ts, append([]string{"tail", "-f", "--every", "100ms"}, args...)...)}
	out, err := f.cmd.StdoutPipe()
	ts.Check(err)
	f.cmd.Stderr = os.Stderr
	f.lines = bufio.NewScanner(out)
	ts.Check(f.cmd.Start())
	ts.Defer(func() { _ = f.cmd.Process.Kill() })
	ts.Value("servers").(*servers).tail = f
}

// seen waits until the tail has shown a line with each text, in order, and
// then interrupts it, which must end it well.
func seen(ts *testscript.TestScript, _ bool, texts []string) {
	f := ts.Value("servers").(*servers).tail
	for _, text := range texts {
		if !f.lines.Scan() {
			ts.Fatalf("tail ended before it showed %q", text)
		}
		if !strings.Contains(f.lines.Text(), text) {
			ts.Fatalf("tail showed %q, want %q", f.lines.Text(), text)
		}
	}
	ts.Check(f.cmd.Process.Signal(os.Interrupt))
	ts.Check(f.cmd.Wait())
}

// waits until so many deliveries have failed once and wait for the next try.
func waits(ts *testscript.TestScript, _ bool, args []string) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for late := time.Now().Add(30 * time.Second); ; <-tick.C {
		out, err := belfry(ts, "deliveries", "list", "--state", "retrying").Output()
		ts.Check(err)
		if fmt.Sprint(strings.Count(string(out), "dlv_")) == args[0] {
			return
		}
		if time.Now().After(late) {
			ts.Fatalf("%s deliveries do not wait:\n%s", args[0], out)
		}
	}
}

func (p *process) log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.logs.String()
}

// stop ends the server started last with SIGTERM; it must drain and exit well.
func stop(ts *testscript.TestScript, neg bool, _ []string) {
	list := ts.Value("servers").(*servers)
	if neg || len(list.running) == 0 {
		ts.Fatalf("no server to stop")
	}
	p := list.running[len(list.running)-1]
	list.running = list.running[:len(list.running)-1]
	ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-p.done:
		if err != nil {
			ts.Fatalf("the server ended badly: %v\n%s", err, p.log())
		}
	case <-time.After(20 * time.Second):
		ts.Fatalf("the server does not stop\n%s", p.log())
	}
	if !strings.Contains(p.log(), "msg=stopped") {
		ts.Fatalf("the server did not say that it stopped\n%s", p.log())
	}
}

// A second signal ends the program at once, whatever it waits for.
func TestSecondSignalStopsAtOnce(t *testing.T) {
	ctx, end := interruptible(os.Stderr)
	defer end()
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the first signal ended nothing")
	}
	// The second one ends the process, so it is shown on one of its own.
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestSlowHelper$")
	cmd.Env = append(os.Environ(), "BELFRY_TEST_SLOW="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for _, want := range []string{"waiting", "draining"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("%q, want %q", lines.Text(), want)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
		t.Errorf("%v, want exit code %d", err, exitFailed)
	}
}

// TestSlowHelper is the process of the test above: it never finishes draining.
func TestSlowHelper(*testing.T) {
	if os.Getenv("BELFRY_TEST_SLOW") == "" {
		return
	}
	ctx, _ := interruptible(os.Stderr)
	fmt.Println("waiting")
	<-ctx.Done()
	fmt.Println("draining")
	select {}
}
