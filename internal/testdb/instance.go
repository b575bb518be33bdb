package testdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// instance is a database server in a temporary folder, on a port of its own:
// what servers of all products have in common.
type instance struct {
	product product
	dir     string
	port    int
	attr    *syscall.SysProcAttr
	deadly  syscall.Signal // ends it at once, and ends it when this process dies

	mu   sync.Mutex
	proc *server
	seq  int
}

// product is what tells the servers of one product from others.
type product interface {
	// named is the product's name in messages.
	named() string
	// command runs the server in the foreground.
	command() *exec.Cmd
	// URL is the connection URL of a database of the server.
	URL(database string) string
	// open connects to a database of the server; empty is one that is always there.
	open(database string) (*sql.DB, error)
	// created and dropped are the statements for a database.
	created(name string) string
	dropped(name string) string
}

// install makes the server's folder, has fill write its data there, and starts
// the server, as the user when this process is root's.
func (i *instance) install(p product, user, pattern string, fill func() *exec.Cmd) (err error) {
	i.product = p
	if i.attr, err = process(i.deadly, user); err != nil {
		return fmt.Errorf("%s refuses to run as root, and there is no user to run it as: %w", p.named(), err)
	}
	if i.dir, err = folder(pattern, i.attr); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(i.dir))
		}
	}()
	// The deadly signal is for servers: what fills the folder is waited for here.
	cmd := fill()
	cmd.SysProcAttr, cmd.Dir = &syscall.SysProcAttr{}, i.dir
	copyCredential(cmd.SysProcAttr, i.attr)
	if err := finish(cmd, 2*time.Minute); err != nil {
		return err
	}
	for range 5 { // a port can be lost between asking for it and binding it
		if i.port, err = freePort(); err != nil {
			return err
		}
		if err = i.start(); err == nil {
			return nil
		}
	}
	return err
}

// finish runs a command to its end, for so long at the most.
func finish(cmd *exec.Cmd, atMost time.Duration) error {
	out := &tail{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return err
	}
	late := time.AfterFunc(atMost, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", cmd.Path, err, out)
	}
	return nil
}

// start runs the server and returns when it answers.
func (i *instance) start() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.proc != nil {
		return errors.New("the server runs already")
	}
	cmd := i.product.command()
	attr := *i.attr
	cmd.SysProcAttr, cmd.Dir = &attr, i.dir
	proc, err := spawn(cmd)
	if err != nil {
		return err
	}
	db, err := i.product.open("")
	if err != nil {
		return err
	}
	defer db.Close()
	if err := proc.await(time.Minute, db.Ping); err != nil {
		proc.end(i.deadly, 10*time.Second)
		return fmt.Errorf("starting %s: %w", i.product.named(), err)
	}
	i.proc = proc
	return nil
}

func (i *instance) stop(signal os.Signal) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.proc != nil {
		i.proc.end(signal, 30*time.Second)
		i.proc = nil
	}
}

// remove ends the server, whose data is thrown away.
func (i *instance) remove() {
	i.stop(i.deadly)
	_ = os.RemoveAll(i.dir)
}

// Start starts a stopped server again, on the same port and data.
func (i *instance) Start(t testing.TB) {
	t.Helper()
	if err := i.start(); err != nil {
		t.Fatalf("testdb: %v", err)
	}
}

// Database makes a fresh database and gives its URL; it is dropped when the
// test ends, if the server then runs.
func (i *instance) Database(t testing.TB) string {
	t.Helper()
	return i.fresh(t, i.product.created)
}

func (i *instance) fresh(t testing.TB, created func(name string) string) string {
	t.Helper()
	i.mu.Lock()
	i.seq++
	name := fmt.Sprintf("test%d", i.seq)
	i.mu.Unlock()
	if err := i.admin(created(name)); err != nil {
		t.Fatalf("testdb: %v", err)
	}
	t.Cleanup(func() { _ = i.admin(i.product.dropped(name)) })
	return i.product.URL(name)
}

func (i *instance) admin(statement string) error {
	db, err := i.product.open("")
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = db.ExecContext(ctx, statement)
	return err
}

// only is the server of one product that the tests of a binary share; it is
// started on first use.
type only[S interface{ remove() }] struct {
	mu     sync.Mutex
	server S
	err    error
	known  bool
}

func (o *only[S]) get(t testing.TB, start func() (S, error)) S {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.known {
		o.known = true
		if o.server, o.err = start(); o.err == nil {
			atEnd(o.server.remove)
		}
	}
	if o.err != nil {
		t.Fatalf("testdb: %v", o.err)
	}
	return o.server
}

// own is a server of the test's own, which is removed when the test ends.
func own[S interface{ remove() }](t testing.TB, start func() (S, error)) S {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatalf("testdb: %v", err)
	}
	t.Cleanup(s.remove)
	return s
}
