package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is a server in a process of its own: what cannot be measured from
// within (memory, start) is measured on it.
type child struct {
	cmd   *exec.Cmd
	url   string
	ready time.Duration // from the start of the process to ready
	done  chan error
	tail  *tail
}

// tail keeps the last lines a process wrote, to show when it fails.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	if len(t.lines) > 20 {
		t.lines = t.lines[1:]
	}
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

var listening = regexp.MustCompile(`listening.*?(http://[^"\s]+)`)

// startChild runs program with the arguments that make it serve, waits for the
// address in its log and for readiness.
func startChild(ctx context.Context, program string, args, environ []string) (*child, error) {
	c := &child{cmd: exec.Command(program, args...), done: make(chan error, 1), tail: &tail{}}
	c.cmd.Env = environ
	logs, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	dieWithParent(c.cmd)
	start := time.Now()
	found, started := make(chan string, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // what dieWithParent asks for is bound to the thread; it ends with this goroutine
		err := c.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		lines := bufio.NewScanner(logs)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			c.tail.add(lines.Text())
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case found <- m[1]:
				default:
				}
			}
		}
		_, _ = io.Copy(io.Discard, logs)
		c.done <- c.cmd.Wait()
	}()
	if err = <-started; err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("it did not become ready within 30 s"))
	defer cancel()
	select {
	case c.url = <-found:
	case err := <-c.done:
		c.done <- err
		return nil, fmt.Errorf("the server ended at its start (%v):\n%s", err, c.tail)
	case <-ctx.Done():
		c.stop()
		return nil, fmt.Errorf("%w:\n%s", context.Cause(ctx), c.tail)
	}
	if err = c.awaitReady(ctx); err != nil {
		c.stop()
		return nil, fmt.Errorf("%w:\n%s", err, c.tail)
	}
	c.ready = time.Since(start)
	return c, nil
}

func (c *child) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(r); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// rss is the memory the process holds.
func (c *child) rss() (int64, error) { return residentSize(c.cmd.Process.Pid) }

// stop ends the process: it may drain, but not for long.
func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(15 * time.Second)
	defer timer.Stop()
	select {
	case err := <-c.done:
		c.done <- err
	case <-timer.C:
		_ = c.cmd.Process.Kill()
		c.done <- <-c.done
	}
}

// kill ends the process as kill -9 does.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	c.done <- <-c.done
}

// residentSize reads a process's resident memory from /proc, or asks ps where
// there is none.
func residentSize(pid int) (int64, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err == nil {
		if _, rest, ok := strings.Cut(string(text), "\nVmRSS:"); ok {
			fields := strings.Fields(rest)
			kb, err := strconv.ParseInt(fields[0], 10, 64)
			return kb << 10, err
		}
	}
	out, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return 0, fmt.Errorf("the memory of process %d cannot be read: %w", pid, err)
	}
	kb, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	return kb << 10, err
}
