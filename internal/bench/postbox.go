package bench

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
	"github.com/belfryhq/belfry/internal/config"
)

// postbox is a channel in place of a mail relay, named email: messages end in it,
// rendered and ready to be sent. What is measured with it is all that comes
// before the wire.
type postbox struct {
	mu          sync.Mutex
	open        chan struct{} // closed = messages are taken
	got         map[string]int
	count       int
	first, last time.Time
	fault       error
	check       func(address string, m *belfry.Message) error
	came        chan struct{} // told now and then that something came
}

func newPostbox() *postbox {
	p := &postbox{came: make(chan struct{}, 1)}
	p.begin(nil)
	p.release()
	return p
}

// config is a configuration that sends mail into p.
func (p *postbox) config(c config.Config) config.Config {
	c.Channels = map[string]map[string]string{"email": {"kind": "bench"}}
	return c
}

func (p *postbox) kinds() []channel.Kind {
	return []channel.Kind{{Name: "bench", Title: "Benchmark", Contact: "email", New: func(channel.Deps, map[string]string) (channel.Sender, error) { return p, nil }}}
}

// begin counts anew; check looks into each message that comes, nil into none.
// No message is taken before release.
func (p *postbox) begin(check func(address string, m *belfry.Message) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got, p.count, p.fault, p.check = map[string]int{}, 0, nil, check
	p.first, p.last = time.Time{}, time.Time{}
	p.open = make(chan struct{})
}

func (p *postbox) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.open)
}

// Send takes a message.
func (p *postbox) Send(ctx context.Context, to channel.Target, m *belfry.Message) belfry.Outcome {
	p.mu.Lock()
	open, check := p.open, p.check
	p.mu.Unlock()
	select {
	case <-open:
	case <-ctx.Done():
		return belfry.Outcome{Kind: belfry.OutcomeRetry, Detail: ctx.Err().Error()}
	}
	var err error
	if check != nil {
		err = check(to.Address, m)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && p.fault == nil {
		p.fault = fmt.Errorf("the message to %s: %w", to.Address, err)
	}
	p.last = time.Now()
	if p.count == 0 {
		p.first = p.last
	}
	p.got[to.Address]++
	p.count++
	select {
	case p.came <- struct{}{}:
	default:
	}
	return belfry.Outcome{Kind: belfry.OutcomeAccepted}
}

// Close leaves it as it is: the channel outlives no server.
func (p *postbox) Close() error { return nil }

// wait returns when n messages are there, one for each address, or says what is
// wrong with them.
func (p *postbox) wait(ctx context.Context, n int, patience time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("waited %v", patience))
	defer cancel()
	for {
		p.mu.Lock()
		count, addresses, fault := p.count, len(p.got), p.fault
		p.mu.Unlock()
		switch {
		case fault != nil:
			return fault
		case count > addresses:
			return fmt.Errorf("%d messages came to %d addresses: somebody was told twice", count, addresses)
		case count == n:
			return nil
		}
		select {
		case <-p.came:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages did not come: %w", n-count, n, context.Cause(ctx))
		}
	}
}

// span is the time from the first message to the last.
func (p *postbox) span() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last.Sub(p.first)
}

// mailOf is the mail address of the i-th person.
func mailOf(i int) string { return fmt.Sprintf("p%d@example.org", i) }

// personOf is the number of the person with a mail address.
func personOf(address string) (i int, err error) {
	_, err = fmt.Sscanf(strings.TrimSuffix(address, "@example.org"), "p%d", &i)
	return i, err
}
