package outbound

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// transport sends plain HTTP directly and leaves everything else to net/http's
// own Transport: TLS, with HTTP/2 where the peer speaks it, and what is rare.
type transport struct {
	full   *http.Transport
	direct *direct
}

func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if addr := directly(req); addr != "" {
		return t.direct.roundTrip(req, addr, 0)
	}
	return t.full.RoundTrip(req)
}

// Within is rt.RoundTrip with a bound on the time until the answer was read;
// what it cuts off ends with context.DeadlineExceeded, a sixteenth of the bound
// later at most. Over the client of a Guard it costs less than a context with
// that bound.
func Within(rt http.RoundTripper, req *http.Request, bound time.Duration) (*http.Response, error) {
	if t, ok := rt.(*transport); ok {
		if addr := directly(req); addr != "" {
			return t.direct.roundTrip(req, addr, bound)
		}
	}
	ctx, cancel := context.WithTimeout(req.Context(), bound)
	resp, err := rt.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, cancel: cancel}
	return resp, nil
}

// boundedBody ends the bound of an answer when it is closed.
type boundedBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *boundedBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

func (t *transport) CloseIdleConnections() {
	t.direct.closeIdle()
	t.full.CloseIdleConnections()
}

// directly is the address to connect to for a request that direct can carry;
// else empty.
func directly(req *http.Request) string {
	u := req.URL
	if u == nil || u.Scheme != "http" || u.Opaque != "" || u.Host == "" || req.Method == http.MethodConnect || req.Header == nil ||
		req.Header["Expect"] != nil || req.Header["Upgrade"] != nil || req.Trailer != nil {
		return ""
	}
	for i := 0; i < len(u.Host); i++ {
		if u.Host[i] <= ' ' || u.Host[i] > '~' {
			return "" // a name that has to be written in another way first
		}
	}
	return address(u)
}

func address(u *url.URL) string {
	if port := u.Port(); port != "" && len(u.Hostname())+1+len(port) == len(u.Host) {
		return u.Host
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// direct carries plain HTTP/1.1 on the goroutine that asks: it writes the
// request, reads the answer, and keeps the connection for the next one.
// http.Transport hands each request to a goroutine that writes and its answer
// to another one that reads, which costs a webhook as much again as writing
// and reading do. The messages are written and read by net/http all the same.
//
// A request ends with its context: by its deadline, which is the connection's,
// or because a cancelled one ends all that the connection waits for.
type direct struct {
	dial     func(ctx context.Context, network, address string) (net.Conn, error)
	response time.Duration
	idle     time.Duration
	perHost  int
	maxHead  int64

	mu      sync.Mutex
	kept    map[string][]*wire // by address, the one used last at the end
	sweeper *time.Timer        // set while kept has any address
	closing bool               // nothing is kept until the next request
}

// wire is a connection.
type wire struct {
	conn  net.Conn
	addr  string
	br    *bufio.Reader
	bw    *bufio.Writer
	head  int64     // bytes that the head of an answer may have
	left  int64     // bytes that may still be read
	heard bool      // a byte was read since the request began
	until time.Time // deadline of the connection; zero = none
	since time.Time // when it was put by
}

var errLongHead = errors.New("the headers of the answer are too long")

// Read reads from the connection within the bound of what is being read.
func (w *wire) Read(p []byte) (int, error) {
	if w.left <= 0 {
		return 0, errLongHead
	}
	if int64(len(p)) > w.left {
		p = p[:w.left]
	}
	n, err := w.conn.Read(p)
	w.left -= int64(n)
	w.heard = w.heard || n > 0
	return n, err
}

// fresh is how long a connection that was put by is used again without a look
// whether the peer has closed it meanwhile; should it have, the request is
// repeated where it may be.
const fresh = 100 * time.Millisecond

// take is a connection to addr, and whether it was used before.
func (d *direct) take(ctx context.Context, addr string, anew bool, now, until time.Time) (*wire, bool, error) {
	d.mu.Lock()
	d.closing = false
	for list := d.kept[addr]; !anew && len(list) > 0; list = d.kept[addr] {
		w := list[len(list)-1]
		list[len(list)-1] = nil
		list = list[:len(list)-1]
		d.kept[addr] = list // the sweep takes it out when it stays empty
		idle := now.Sub(w.since)
		if idle < fresh {
			d.mu.Unlock()
			return w, true, nil
		}
		d.mu.Unlock()
		// The deadline of the last request may be over.
		if w.until = (time.Time{}); idle < d.idle && w.conn.SetDeadline(w.until) == nil && quiet(w.conn) {
			return w, true, nil
		}
		_ = w.conn.Close()
		d.mu.Lock()
	}
	d.mu.Unlock()
	if !until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	conn, err := d.dial(ctx, "tcp", addr)
	if err != nil {
		return nil, false, because(ctx, until, err)
	}
	w := &wire{conn: conn, addr: addr, head: d.maxHead, bw: bufio.NewWriterSize(conn, 4<<10)}
	w.br = bufio.NewReaderSize(w, 4<<10)
	return w, false, nil
}

// put keeps a connection on which nothing is under way.
func (d *direct) put(w *wire) {
	w.since = time.Now()
	d.mu.Lock()
	list := d.kept[w.addr]
	if d.closing || len(list) >= d.perHost {
		d.mu.Unlock()
		_ = w.conn.Close()
		return
	}
	d.kept[w.addr] = append(list, w)
	if d.sweeper == nil {
		d.sweeper = time.AfterFunc(d.idle, d.sweep)
	}
	d.mu.Unlock()
}

// sweep closes what was not used for long.
func (d *direct) sweep() {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	oldest := now
	for addr, list := range d.kept {
		n := 0
		for n < len(list) && now.Sub(list[n].since) >= d.idle {
			_ = list[n].conn.Close()
			n++
		}
		if n == len(list) {
			delete(d.kept, addr)
			continue
		}
		if n > 0 {
			rest := copy(list, list[n:])
			clear(list[rest:])
			d.kept[addr] = list[:rest]
		}
		if since := d.kept[addr][0].since; since.Before(oldest) {
			oldest = since
		}
	}
	if len(d.kept) == 0 {
		d.sweeper = nil
		return
	}
	d.sweeper.Reset(max(d.idle-now.Sub(oldest), time.Second))
}

func (d *direct) closeIdle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closing = true
	for _, list := range d.kept {
		for _, w := range list {
			_ = w.conn.Close()
		}
	}
	clear(d.kept)
	if d.sweeper != nil {
		d.sweeper.Stop()
		d.sweeper = nil
	}
}

// roundTrip sends req; bound is the time it may take besides what its context
// says, 0 = none.
func (d *direct) roundTrip(req *http.Request, addr string, bound time.Duration) (*http.Response, error) {
	ctx := req.Context()
	now := time.Now()
	until, _ := ctx.Deadline()
	if end := now.Add(bound); bound > 0 && (until.IsZero() || end.Before(until)) {
		until = end
	}
	for anew := false; ; anew = true {
		if err := ctx.Err(); err != nil {
			discard(req)
			return nil, err
		}
		w, used, err := d.take(ctx, addr, anew, now, until)
		if err != nil {
			discard(req)
			return nil, err
		}
		resp, err := d.trip(ctx, w, req, now, until)
		if err == nil {
			return resp, nil
		}
		// A connection that was kept may have been closed by the peer, as a
		// server does with one that is idle, before this request came.
		if !used || w.heard || !closed(err) || !repeatable(req) {
			return nil, err
		}
		if req.GetBody != nil {
			again := *req
			if again.Body, err = req.GetBody(); err != nil {
				return nil, err
			}
			req = &again
		}
	}
}

func discard(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

// closed reports whether err says that the peer closed the connection.
func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// repeatable reports whether a request whose fate is not known may be sent
// again: the rule of net/http.
func repeatable(req *http.Request) bool {
	if req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		return false
	}
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	_, ok := req.Header["Idempotency-Key"]
	if !ok {
		_, ok = req.Header["X-Idempotency-Key"]
	}
	return ok
}

// trip sends req over w and reads the head of the answer. When it fails w is
// closed.
func (d *direct) trip(ctx context.Context, w *wire, req *http.Request, now, until time.Time) (*http.Response, error) {
	head := now.Add(d.response)
	if !until.IsZero() && until.Before(head) {
		head = until
	}
	w.heard = false
	err := w.by(head, head.Sub(now)/16)
	watch := func() bool { return true }
	if err == nil && ctx.Done() != nil {
		watch = context.AfterFunc(ctx, func() { _ = w.conn.SetDeadline(time.Unix(1, 0)) })
	}
	var resp *http.Response
	if err == nil {
		resp, err = w.exchange(req)
	} else {
		discard(req)
	}
	if err == nil && !head.Equal(until) && resp.Body != http.NoBody {
		err = w.by(until, 0) // the body has what is left
		if ctx.Err() != nil {
			err = ctx.Err() // may have come before the deadline that was just set
		}
	}
	if err != nil {
		watch()
		_ = w.conn.Close()
		return nil, because(ctx, until, err)
	}
	w.left = math.MaxInt64
	b := &answerBody{d: d, w: w, ctx: ctx, until: until, watch: watch, inner: resp.Body, keep: !resp.Close && !req.Close}
	if resp.Body == http.NoBody {
		b.end(true)
	} else {
		resp.Body = b
	}
	return resp, nil
}

// by has all that waits for the connection end by t, or up to slack later: the
// deadline of the request before may do, and setting one for each costs.
func (w *wire) by(t time.Time, slack time.Duration) error {
	if !w.until.IsZero() && !w.until.Before(t) && w.until.Sub(t) <= slack {
		return nil
	}
	w.until = t
	if !t.IsZero() {
		w.until = t.Add(slack)
	}
	return w.conn.SetDeadline(w.until)
}

// because is err in the words of what caused it: the context, or the deadline
// of the request.
func because(ctx context.Context, until time.Time, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return context.Canceled
	case ctx.Err() != nil, !until.IsZero() && !time.Now().Before(until):
		return context.DeadlineExceeded // whatever broke off half-way
	}
	return err
}

func (w *wire) exchange(req *http.Request) (*http.Response, error) {
	sent := req.Write(w.bw)
	if sent == nil {
		sent = w.bw.Flush()
	}
	if sent != nil {
		if errors.Is(sent, os.ErrDeadlineExceeded) {
			return nil, sent
		}
		// A peer that wants no more of a request answers and closes: the answer
		// may be here.
		_ = w.by(time.Now().Add(50*time.Millisecond), 0)
	}
	// Interim answers (103 Early Hints and the like) come out of the one bound
	// for what comes before the body.
	for w.left = w.head; ; {
		resp, err := http.ReadResponse(w.br, req)
		switch {
		case err != nil && sent != nil:
			return nil, sent
		case err != nil:
			return nil, err
		case resp.StatusCode < 100 || resp.StatusCode > 199 || resp.StatusCode == http.StatusSwitchingProtocols:
			resp.Close = resp.Close || sent != nil || resp.StatusCode == http.StatusSwitchingProtocols
			return resp, nil
		}
	}
}

// answerBody is the body of an answer. At its end the connection is put by; when
// it is closed before, the connection is closed, for what is left of the answer
// may be long.
type answerBody struct {
	d     *direct
	w     *wire
	ctx   context.Context // of the request, which may end before its answer was read
	until time.Time
	watch func() bool
	inner io.ReadCloser
	keep  bool
	ended atomic.Bool
}

func (b *answerBody) Read(p []byte) (int, error) {
	if b.ended.Load() {
		return 0, io.EOF
	}
	n, err := b.inner.Read(p)
	if err == io.EOF {
		b.end(true)
	} else if err != nil {
		b.end(false)
		err = because(b.ctx, b.until, err)
	}
	return n, err
}

func (b *answerBody) Close() error {
	b.end(false)
	return nil
}

func (b *answerBody) end(whole bool) {
	if !b.ended.CompareAndSwap(false, true) {
		return
	}
	// A watch that could not be called off is about to spoil the connection.
	// Bytes behind the answer belong to no request.
	if b.watch() && whole && b.keep && b.w.br.Buffered() == 0 {
		b.d.put(b.w)
		return
	}
	_ = b.w.conn.Close()
}
