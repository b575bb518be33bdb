package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
)

// connector makes connections for a pool, and goes on with those whose callers
// gave up: the next to ask gets them. A server so busy that it takes new
// connections more slowly than we are patient would otherwise never be reached
// again, and be kept busy with beginnings. (pgx's own pool does the same.)
type connector struct {
	driver.Connector
	ctx    context.Context // of all that is under way
	cancel context.CancelFunc

	mu     sync.Mutex
	left   []*connecting   // given up by who began them
	ends   []chan struct{} // of connections that were made, each closed when nothing is left of it
	closed bool
	wg     sync.WaitGroup
}

// connecting is one connection being made; conn and err are read once done is
// closed.
type connecting struct {
	done chan struct{}
	conn driver.Conn
	err  error
}

// newConnector wraps one that itself bounds how long connecting takes.
func newConnector(inner driver.Connector) *connector {
	c := &connector{Connector: inner}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Connect implements driver.Connector.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	n, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case <-n.done:
		return n.conn, n.err
	case <-ctx.Done():
		c.leave(n)
		return nil, fmt.Errorf("connecting: %w", ctx.Err())
	}
}

// errClosed is what a pool answers after its end.
var errClosed = errors.New("connecting: the database was closed")

// begin is a connection that somebody else began, or a new one.
func (c *connector) begin(ctx context.Context) (*connecting, error) {
	for {
		n, left, err := c.next()
		if err != nil || !left || n.lives(ctx) {
			return n, err
		}
	}
}

// next is one that was left, or a new one.
func (c *connector) next() (n *connecting, left bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return nil, false, errClosed
	case len(c.left) > 0:
		n, c.left = c.left[0], c.left[1:]
		return n, true, nil
	}
	n = &connecting{done: make(chan struct{})}
	c.wg.Go(func() {
		n.conn, n.err = c.Connector.Connect(c.ctx)
		c.made(n.conn)
		close(n.done)
	})
	return n, false, nil
}

// made notes a connection; nil is none.
func (c *connector) made(conn driver.Conn) {
	postgres, ok := conn.(*stdlib.Conn)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends = append(slices.DeleteFunc(c.ends, isClosed), postgres.Conn().PgConn().CleanupDone())
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// lives looks at a connection that was left: while it is being made it may become
// one, and one that was made may be gone again. A server that is asked that may be
// silent: nobody else waits for it meanwhile.
func (n *connecting) lives(ctx context.Context) bool {
	select {
	case <-n.done:
	default:
		return true
	}
	if n.err != nil { // of a while ago: it says nothing of now
		return false
	}
	if r, ok := n.conn.(driver.SessionResetter); ok && r.ResetSession(ctx) != nil {
		_ = n.conn.Close() // it is gone already
		return false
	}
	return true
}

// leave leaves a connection to the next; after the end there is none, and it
// fails at once.
func (c *connector) leave(n *connecting) {
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.left = append(c.left, n)
	}
	c.mu.Unlock()
	if closed {
		n.discard()
	}
}

func (n *connecting) discard() {
	if <-n.done; n.err == nil {
		_ = n.conn.Close() // nothing was asked of it
	}
}

// endPatience is how long the end waits for what was cancelled.
const endPatience = 2 * time.Second

// Close ends what is under way, as sql.DB.Close asks for.
//
// A statement that was given up is cancelled by a word to the server that may
// still be on its way. It is waited for: a process that ends in the middle of it
// would leave the server at work for nobody, and a PgBouncer before 1.19 dead.
func (c *connector) Close() error {
	c.mu.Lock()
	c.closed = true
	left := c.left
	c.left = nil
	c.mu.Unlock()
	c.cancel()
	for _, n := range left {
		n.discard()
	}
	c.wg.Wait()
	c.mu.Lock()
	ends := c.ends
	c.mu.Unlock()
	patience := time.NewTimer(endPatience)
	defer patience.Stop()
	for _, end := range ends {
		select {
		case <-end:
		case <-patience.C:
			return nil
		}
	}
	return nil
}
