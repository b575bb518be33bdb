package testdb

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is one running process of a database server.
type server struct {
	cmd  *exec.Cmd
	out  *tail
	done chan struct{} // closed when the process has ended
	err  error         // why it ended; read after done
}

// spawn starts a server process. The kernel's parent-death signal belongs to
// the thread that forked, so the thread is kept until the process has ended.
func spawn(cmd *exec.Cmd) (*server, error) {
	s := &server{cmd: cmd, out: &tail{}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = s.out, s.out
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := cmd.Start()
		started <- err
		if err == nil {
			s.err = cmd.Wait()
		}
		close(s.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return s, nil
}

// await asks ready until it answers nil, the process ends or the time is up.
func (s *server) await(timeout time.Duration, ready func() error) error {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		if last = ready(); last == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.done:
			return fmt.Errorf("the server ended at once (%v): %s", s.err, s.out)
		case <-deadline.C:
			return fmt.Errorf("the server was not ready after %v (%w): %s", timeout, last, s.out)
		}
	}
}

// end signals the process and waits for it; after the timeout it kills.
func (s *server) end(signal os.Signal, timeout time.Duration) {
	_ = s.cmd.Process.Signal(signal)
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	select {
	case <-s.done:
	case <-deadline.C:
		_ = s.cmd.Process.Kill()
		<-s.done
	}
}

// tail keeps the last few kilobytes a server wrote, for failure messages.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if over := len(t.buf) - 8192; over > 0 {
		t.buf = append(t.buf[:0], t.buf[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}

// find looks for a server's binary: in the folder the environment variable
// names, in PATH, then in the folders where packages put it.
func find(variable, name string, globs ...string) (string, error) {
	if dir := os.Getenv(variable); dir != "" {
		path := filepath.Join(dir, name)
		if executable(path) {
			return path, nil
		}
		return "", fmt.Errorf("%s is set to %s, but there is no %s in it", variable, dir, name)
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, glob := range globs {
		dirs, err := filepath.Glob(glob)
		if err != nil {
			return "", err
		}
		for i := len(dirs) - 1; i >= 0; i-- { // the highest version sorts last
			if path := filepath.Join(dirs[i], name); executable(path) {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%s was not found in PATH or in %s", name, strings.Join(globs, ", "))
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// folder makes a temporary folder that the server's user owns.
func folder(pattern string, attr *syscall.SysProcAttr) (string, error) {
	dir, err := os.MkdirTemp("", pattern)
	if err != nil {
		return "", err
	}
	if uid, gid, ok := owner(attr); ok {
		if err := os.Chown(dir, uid, gid); err != nil {
			return "", errors.Join(err, os.RemoveAll(dir))
		}
	}
	return dir, nil
}

// freePort is a port nobody listens on at this moment. Another process may
// take it before the server does; the callers try again then.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
