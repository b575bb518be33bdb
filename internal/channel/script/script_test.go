package script_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/channel/channeltest"
	"github.com/belfryhq/belfry/internal/channel/script"
)

// ROLE makes this test the program that it runs.
func TestMain(m *testing.M) {
	if role := os.Getenv("ROLE"); role != "" {
		os.Exit(program(role))
	}
	goleak.VerifyTestMain(m)
}

// program is what runs as a script.
func program(role string) int {
	role, arg, _ := strings.Cut(role, " ")
	switch role {
	case "exit":
		code, _ := strconv.Atoi(arg)
		fmt.Println("said", strings.Join(os.Args[1:], "|"))
		return code
	case "show":
		in, _ := io.ReadAll(os.Stdin)
		dir, _ := os.Getwd()
		json.NewEncoder(os.Stdout).Encode(map[string]any{"in": string(in), "env": os.Environ(), "args": os.Args[1:], "dir": dir, "uid": os.Getuid()})
	case "flood":
		line := []byte(strings.Repeat(cmp.Or(arg, "\x00"), 1<<20))
		for range 1 << 10 { // a gigabyte
			if _, err := os.Stdout.Write(line); err != nil {
				break
			}
		}
		select {}
	case "hang":
		// With a child that holds the output, and one that has let go of it.
		holding := exec.Command("sleep", "1000")
		holding.Stdout = os.Stdout
		quiet := exec.Command("sleep", "1000")
		if holding.Start() != nil || quiet.Start() != nil {
			return 1
		}
		os.WriteFile(arg, fmt.Appendf(nil, "%d %d %d", os.Getpid(), holding.Process.Pid, quiet.Process.Pid), 0o600)
		select {}
	case "leave": // ends, and leaves a child behind
		child := exec.Command("sleep", "1000")
		if child.Start() != nil {
			return 1
		}
		os.WriteFile(arg, fmt.Appendf(nil, "%d", child.Process.Pid), 0o600)
	}
	return 0
}

var self = func() string {
	path, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return path
}()

func open(t *testing.T, role string, more ...string) channel.Sender {
	t.Helper()
	values := map[string]string{"command": self, "environment": "ROLE=" + role}
	for i := 0; i < len(more); i += 2 {
		values[more[i]] = strings.ReplaceAll(more[i+1], "ROLE", "ROLE="+role)
	}
	s, err := script.Kind().New(channel.Deps{Log: slog.New(slog.DiscardHandler), Now: time.Now}, values)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func run(t *testing.T, s channel.Sender) belfry.Outcome {
	t.Helper()
	return s.Send(t.Context(), channel.Target{}, &belfry.Message{ID: "dlv_1", Body: []byte(`{"event":{"id":"; rm -rf / $(x)"}}`)})
}

// feature: CPS-17
func TestWhatAScriptSees(t *testing.T) {
	t.Setenv("SECRET_OF_THE_SERVER", "x")
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, "show", "environment", "ROLE\nLANG=C.UTF-8\nQUOTED=a b\"$HOME", "arguments", "--name\na b; c\n$(id)\n", "directory", dir)
	out := run(t, s)
	var seen struct {
		In   string
		Env  []string
		Args []string
		Dir  string
		UID  int
	}
	if err := json.Unmarshal([]byte(out.Detail), &seen); err != nil || out.Kind != belfry.OutcomeDelivered {
		t.Fatalf("%+v: %v", out, err)
	}
	if seen.In != `{"event":{"id":"; rm -rf / $(x)"}}` || seen.Dir != dir || seen.UID != os.Getuid() {
		t.Errorf("%+v", seen)
	}
	if want := []string{"--name", "a b; c", "$(id)"}; !slices.Equal(seen.Args, want) {
		t.Errorf("arguments %q", seen.Args)
	}
	if len(seen.Env) != 3 || !slices.ContainsFunc(seen.Env, func(e string) bool { return strings.HasPrefix(e, "QUOTED=") }) {
		t.Errorf("environment %q", seen.Env)
	}
}

func TestOutcomes(t *testing.T) {
	for code, want := range map[int]belfry.OutcomeKind{0: belfry.OutcomeDelivered, 1: belfry.OutcomeRetry, 64: belfry.OutcomeRefused, 65: belfry.OutcomeRefused, 75: belfry.OutcomeRetry, 255: belfry.OutcomeRetry} {
		out := run(t, open(t, fmt.Sprintf("exit %d", code), "arguments", "a\nb"))
		if out.Kind != want || out.Status != code || !strings.Contains(out.Detail, "said a|b") {
			t.Errorf("exit %d: %+v", code, out)
		}
	}
	for name, values := range map[string][]string{
		"no program":    {"command", "/no/such/program"},
		"not a program": {"command", "/etc/hostname"},
		"no directory":  {"directory", "/no/such/place"},
	} {
		if out := run(t, open(t, "x", values...)); out.Kind != belfry.OutcomeRetry || out.Detail == "" {
			t.Errorf("%s: %+v", name, out)
		}
	}
	s := open(t, "exit 0")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out := run(t, s); out.Kind != belfry.OutcomeRetry {
		t.Errorf("closed: %+v", out)
	}
}

// gone waits until no process of these ids is there, zombies aside.
func gone(t *testing.T, file string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range strings.Fields(string(raw)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		tick := time.NewTicker(10 * time.Millisecond)
		late := time.After(10 * time.Second)
		for alive(pid) {
			select {
			case <-tick.C:
			case <-late:
				t.Fatalf("process %d is still there", pid)
			}
		}
		tick.Stop()
	}
}

func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// A script that hangs is killed with all it started, and so is what one leaves
// behind.
func TestNothingIsLeftRunning(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pids")
	s := open(t, "hang "+file, "timeout", "1500ms", "environment", "ROLE\nPATH="+os.Getenv("PATH"))
	start := time.Now()
	if out := run(t, s); out.Kind != belfry.OutcomeRetry || !strings.Contains(out.Detail, "in time") || time.Since(start) > 10*time.Second {
		t.Errorf("after %v: %+v", time.Since(start), out)
	}
	gone(t, file)

	file = filepath.Join(t.TempDir(), "pids")
	s = open(t, "leave "+file, "environment", "ROLE\nPATH="+os.Getenv("PATH"))
	if out := run(t, s); out.Kind != belfry.OutcomeDelivered {
		t.Errorf("%+v", out)
	}
	gone(t, file)

	file = filepath.Join(t.TempDir(), "pids")
	s = open(t, "hang "+file, "environment", "ROLE\nPATH="+os.Getenv("PATH"))
	ended := make(chan belfry.Outcome)
	go func() { ended <- run(t, s) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if raw, err := os.ReadFile(file); err == nil && len(raw) > 0 {
			break
		}
		<-tick.C
	}
	if err := s.Close(); err != nil { // kills it
		t.Fatal(err)
	}
	if out := <-ended; out.Kind != belfry.OutcomeRetry || out.Detail != "it was interrupted" {
		t.Errorf("%+v", out)
	}
	gone(t, file)
}

// A script that prints a gigabyte costs its bound and is a failure.
func TestFlood(t *testing.T) {
	for role, want := range map[string]string{"flood x": "it wrote more than 100000 bytes and was killed: ", "flood": "it wrote more than 100000 bytes and was killed"} {
		s := open(t, role, "max_output", "100000")
		start := time.Now()
		out := run(t, s)
		if out.Kind != belfry.OutcomeRefused || strings.TrimRight(out.Detail, "x…") != want || time.Since(start) > 10*time.Second {
			t.Errorf("%s, after %v: %+v", role, time.Since(start), out)
		}
	}
}

// A user of its own, where the test may become one.
func TestUser(t *testing.T) {
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	_, err = script.Kind().New(channel.Deps{}, map[string]string{"command": "/bin/true", "user": "nobody"})
	if os.Getuid() != 0 {
		if err == nil || !strings.Contains(err.Error(), "root") {
			t.Errorf("without being root: %v", err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, "x", "command", "/usr/bin/id", "arguments", "-u", "user", "nobody")
	if out := run(t, s); out.Kind != belfry.OutcomeDelivered || out.Detail != nobody.Uid {
		t.Errorf("%+v, want %s", out, nobody.Uid)
	}
	if _, err := script.Kind().New(channel.Deps{}, map[string]string{"command": "/bin/true", "user": "no such user"}); err == nil || !strings.Contains(err.Error(), "no user") {
		t.Errorf("no such user: %v", err)
	}
}

func TestSettings(t *testing.T) {
	for want, values := range map[string]map[string]string{
		"/settings/command: is required":          {},
		"/settings/command: must be an absolute":  {"command": "notify.sh"},
		"/settings/directory: must be an absolut": {"command": "/bin/true", "directory": "here"},
		"/settings/environment: must hold NAME":   {"command": "/bin/true", "environment": "hunter2"},
		"/settings/timeout: must be 1m20s at":     {"command": "/bin/true", "timeout": "2m"},
		"/settings/max_output: must be from 1":    {"command": "/bin/true", "max_output": "0"},
		"/settings/shell":                         {"command": "/bin/true", "shell": "yes"},
	} {
		_, err := script.Kind().New(channel.Deps{}, values)
		if belfry.KindOf(err) != belfry.Invalid || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v: %v, want %q", values, err, want)
		}
	}
}

// peer answers each line it is sent.
func peer(t *testing.T, answer func(line string) string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				stop := context.AfterFunc(ctx, func() { c.Close() })
				defer stop()
				line, err := bufio.NewReader(c).ReadString('\n')
				if err == nil {
					fmt.Fprintln(c, answer(strings.TrimSuffix(line, "\n")))
				}
			}()
		}
	}()
	t.Cleanup(func() {
		cancel()
		l.Close()
		<-done
	})
	return l.Addr().String()
}

const password = "hunter2-of-the-script"

// dialling asks a peer what is to become of a message. It is bash's, since the
// suite runs it hundreds of times: this test takes long to start when it looks
// for races.
const dialling = `#!/bin/bash
exec 3<>"/dev/tcp/$HOST/$PORT" || exit 1
/bin/cat > /dev/null
printf '%s\n' "told $PASSWORD" >&3
IFS= read -r answer <&3 || exit 1
printf '%s\n' "$answer"
case "$answer" in
taken) exit 0 ;;
refused*) exit 65 ;;
esac
exit 1
`

func TestConformance(t *testing.T) {
	program := filepath.Join(t.TempDir(), "dial")
	if err := os.WriteFile(program, []byte(dialling), 0o755); err != nil {
		t.Fatal(err)
	}
	channeltest.Run(t, channeltest.Subject{
		Open: func(t *testing.T, address string) (channel.Sender, channel.Target) {
			host, port, err := net.SplitHostPort(address)
			if err != nil {
				t.Fatal(err)
			}
			s, err := script.Kind().New(channel.Deps{}, map[string]string{"command": program, "environment": "HOST=" + host + "\nPORT=" + port + "\nPASSWORD=" + password})
			if err != nil {
				t.Fatal(err)
			}
			return s, channel.Target{Address: belfry.ScriptAddress("x", "")}
		},
		Accepting: func(t *testing.T) (string, func() int) {
			var n atomic.Int64
			return peer(t, func(string) string {
				n.Add(1)
				return "taken"
			}), func() int { return int(n.Load()) }
		},
		Echoing: func(t *testing.T) string { return peer(t, func(line string) string { return "refused " + line }) },
		Secrets: []string{password},
		Message: belfry.Message{ContentType: "application/json", Body: []byte(`{"event":{"id":"1"}}`)},
	})
}
