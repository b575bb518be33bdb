package script

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

// Names of the settings.
const (
	settingCommand     = "command"
	settingArguments   = "arguments"
	settingEnvironment = "environment"
	settingUser        = "user"
	settingDirectory   = "directory"
	settingTimeout     = "timeout"
	settingOutput      = "max_output"
)

// longest is the most time a program has: a send has no more.
const longest = 80 * time.Second

// maxOutput bounds what may be configured, in bytes.
const maxOutput = 16 << 20

// Exit codes that will come again (sysexits.h).
const (
	exitUsage = 64
	exitData  = 65
)

// Kind describes the channel.
func Kind() channel.Kind {
	return channel.Kind{
		Name:     belfry.KindScript,
		Title:    "Script",
		Help:     "Runs a program of this machine, with JSON on its standard input. Set up by the server's configuration alone; subscriptions name it as script.",
		Operator: true,
		Settings: []channel.Setting{
			{Name: settingCommand, Label: "Program", Type: channel.TypeText, Required: true, Help: "Its absolute path. No shell reads it."},
			{Name: settingArguments, Label: "Arguments", Type: channel.TypeLong, Help: "One a line, passed on as they are."},
			{Name: settingEnvironment, Label: "Environment", Type: channel.TypeLong, Secret: true, Help: "NAME=value, one a line. Nothing else is in it."},
			{Name: settingUser, Label: "User", Type: channel.TypeText, Help: "Name or number of the system's user it runs as; the server must run as root. Empty = as the server."},
			{Name: settingDirectory, Label: "Directory", Type: channel.TypeText, Default: "/", Help: "Where it runs."},
			{Name: settingTimeout, Label: "Time-out", Type: channel.TypeDuration, Default: "30s", Help: "It is killed after it; at most 80s."},
			{Name: settingOutput, Label: "Output", Type: channel.TypeNumber, Default: "65536", Help: "Bytes it may write; it is killed when it writes more."},
		},
		New: func(_ channel.Deps, values map[string]string) (channel.Sender, error) { return open(values) },
	}
}

// sender runs one program.
type sender struct {
	command   string
	arguments []string
	env       []string
	hidden    []string // values of env
	user      *account // nil = as the server
	directory string
	timeout   time.Duration
	output    int

	ending context.Context // ends with the sender
	end    context.CancelFunc
	runs   sync.WaitGroup
	mu     sync.Mutex
	closed bool
}

func open(values map[string]string) (*sender, error) {
	v, err := channel.Read(Kind().Settings, values)
	if err != nil {
		return nil, err
	}
	var faults channel.Faults
	fault := faults.Add
	s := &sender{command: v[settingCommand], directory: v[settingDirectory], arguments: lines(v[settingArguments])}
	if !supported {
		fault(settingCommand, "scripts are not available on this system")
	}
	for name, path := range map[string]string{settingCommand: s.command, settingDirectory: s.directory} {
		if !filepath.IsAbs(path) {
			fault(name, "must be an absolute path such as /usr/local/bin/notify")
		}
	}
	for _, entry := range lines(v[settingEnvironment]) {
		name, value, found := strings.Cut(entry, "=")
		if !found || name == "" || strings.ContainsAny(name, " \t") {
			fault(settingEnvironment, "must hold NAME=value, one a line") // without repeating it: it may be secret
			break
		}
		s.env = append(s.env, entry)
		s.hidden = append(s.hidden, value)
	}
	if s.env == nil {
		s.env = []string{} // nil would be the server's own
	}
	if v[settingUser] != "" {
		a, err := lookUp(v[settingUser])
		if err != nil {
			fault(settingUser, "%s", err)
		}
		s.user = a
	}
	s.timeout, _ = time.ParseDuration(v[settingTimeout]) // Validate has read both
	s.output, _ = strconv.Atoi(v[settingOutput])
	if s.timeout > longest {
		fault(settingTimeout, "must be %s at most", longest)
	}
	if s.output < 1 || s.output > maxOutput {
		fault(settingOutput, "must be from 1 to %d", maxOutput)
	}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	s.ending, s.end = context.WithCancel(context.Background())
	return s, nil
}

// lines are the lines of a text that hold something.
func lines(text string) []string {
	return slices.DeleteFunc(strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n"), func(l string) bool { return l == "" })
}

// Close kills what runs and waits for its end.
func (s *sender) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.runs.Wait()
	return nil
}

// begin counts a run; false when the sender is closed.
func (s *sender) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.runs.Add(1)
	}
	return !s.closed
}

// Send runs the program with m's body on its standard input; a message without
// a body, as a test is, is put into JSON.
func (s *sender) Send(ctx context.Context, _ channel.Target, m *belfry.Message) belfry.Outcome {
	if !s.begin() {
		return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "the channel was closed"}
	}
	defer s.runs.Done()
	body := m.Body
	if len(body) == 0 {
		body = testBody(m)
	}
	given, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	stop := context.AfterFunc(s.ending, cancel)
	defer stop()

	out := &limited{room: s.output, over: cancel}
	cmd := exec.CommandContext(given, s.command, s.arguments...)
	cmd.Env, cmd.Dir = s.env, s.directory
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(body), out, out
	alone(cmd, s.user)
	cmd.Cancel = func() error { return killGroup(cmd.Process) }
	cmd.WaitDelay = time.Second // for whoever left the group and holds the pipes
	err := cmd.Start()
	if err == nil {
		err = cmd.Wait()
		_ = killGroup(cmd.Process) // whom it left behind
	}
	return s.judge(ctx, given, cmd, out, err)
}

// judge says what an end means for the delivery.
func (s *sender) judge(ctx, given context.Context, cmd *exec.Cmd, out *limited, err error) belfry.Outcome {
	said := out.first()
	detail := func(words string) string {
		if said != "" {
			words += ": " + said
		}
		return channel.Detail(words, s.hidden...)
	}
	var exit *exec.ExitError
	switch {
	case out.spilled():
		return belfry.Outcome{Kind: belfry.OutcomeRefused, Detail: detail(fmt.Sprintf("it wrote more than %d bytes and was killed", s.output))}
	case err == nil, errors.Is(err, exec.ErrWaitDelay) && cmd.ProcessState != nil && cmd.ProcessState.Success() && given.Err() == nil:
		return belfry.Outcome{Kind: belfry.OutcomeDelivered, Detail: channel.Detail(said, s.hidden...)}
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded), s.ending.Err() != nil:
		return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: "it was interrupted"}
	case given.Err() != nil:
		return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: detail("it did not end in time and was killed")}
	case errors.As(err, &exit) && exit.Exited():
		kind := belfry.OutcomeRetry
		if code := exit.ExitCode(); code == exitUsage || code == exitData {
			kind = belfry.OutcomeRefused
		}
		return belfry.Outcome{Kind: kind, Status: exit.ExitCode(), Detail: detail("it ended with " + strconv.Itoa(exit.ExitCode()))}
	case errors.As(err, &exit):
		return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: detail("it was ended by " + exit.String())}
	case errors.Is(err, os.ErrNotExist):
		return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: channel.Detail("there is no program " + s.command + ", or no directory " + s.directory)}
	case errors.Is(err, os.ErrPermission):
		return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: channel.Detail("the server may not run " + s.command + ", or not as this user")}
	}
	return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: channel.Detail("it could not be run: "+err.Error(), s.hidden...)}
}

// limited keeps the first of an output and counts the rest; over is called
// when there is more than room.
type limited struct {
	over func()

	mu   sync.Mutex
	room int
	kept []byte
	full bool
}

func (l *limited) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if free := 4*channel.MaxDetail - len(l.kept); free > 0 {
		l.kept = append(l.kept, p[:min(free, len(p))]...)
	}
	if l.room -= len(p); l.room < 0 && !l.full {
		l.full = true
		l.over()
	}
	if l.full {
		return 0, errors.New("the output is full")
	}
	return len(p), nil
}

func (l *limited) spilled() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.full
}

func (l *limited) first() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimFunc(string(l.kept), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
}
