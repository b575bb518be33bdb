package pipeline

import (
	"sync"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Payload is an accepted event shared by everything that is sent about it. The
// wire form is made once, on first use.
type Payload struct {
	*belfry.Accepted

	digest *gathered // of a digest, which speaks of several events

	once sync.Once
	wire []byte
	err  error
}

// NewPayload wraps an accepted event.
func NewPayload(acc *belfry.Accepted) *Payload { return &Payload{Accepted: acc} }

// Wire is the event as webhooks carry it. What is stored is that form already,
// unless the event keeps an actor to itself; else encode makes it, once.
func (p *Payload) Wire(encode func(*belfry.Event) ([]byte, error)) ([]byte, error) {
	if p.Body != nil && (p.Event.Actor == "" || !p.Event.Has(belfry.FlagAnonymous)) {
		return p.Body, nil
	}
	p.once.Do(func() { p.wire, p.err = encode(p.Event) })
	return p.wire, p.err
}

// size is what the payload counts for against the window's bytes.
func (p *Payload) size() int {
	if p.digest != nil {
		return 512 + 256*len(p.digest.items)
	}
	return 512 + len(p.Body) + len(p.Event.Data) + len(p.Event.Record) + len(p.Event.Variables)
}
