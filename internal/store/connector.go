package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
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
	left   []*connecting // given up by who began them
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	n := c.takeOver(ctx)
	if n == nil {
		n = &connecting{done: make(chan struct{})}
		c.wg.Go(func() {
			n.conn, n.err = c.Connector.Connect(c.ctx)
			close(n.done)
		})
	}
	return n, nil
}

// takeOver is a connection that somebody else began, nil = there is none. One
// that was made meanwhile is looked at first: it may be gone again. c.mu is held.
func (c *connector) takeOver(ctx context.Context) *connecting {
	for len(c.left) > 0 {
		n := c.left[0]
		c.left = c.left[1:]
		select {
		case <-n.done:
		default:
			return n
		}
		if n.err != nil { // of a while ago: it says nothing of now
			continue
		}
		if r, ok := n.conn.(driver.SessionResetter); ok && r.ResetSession(ctx) != nil {
			_ = n.conn.Close() // it is gone already
			continue
		}
		return n
	}
	return nil
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

// Close ends what is under way, as sql.DB.Close asks for.
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
	return nil
}
