//go:build linux

package faults_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// fleet is the frame of tests that kill: the processes of one database, of which
// any die at any moment while streams of events come in.
type fleet struct {
	t      *testing.T
	h      *home
	ps     []*process
	l      *load
	chance *rand.Rand
	deaths []death
}

// newFleet starts so many nodes and waits until they have divided the work.
func newFleet(t *testing.T, h *home, nodes int) *fleet {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	f := &fleet{t: t, h: h, chance: rand.New(rand.NewPCG(seed, 0)), ps: make([]*process, nodes)}
	for i := range f.ps {
		f.ps[i] = h.start()
	}
	if nodes > 1 {
		divided(t, f.ps[0], nodes)
	}
	f.l = newLoad(t, f.ps[0])
	f.l.to(f.ps...)
	return f
}

// send runs streams, named a, b and so on, until end is called, which waits for
// what is under way.
func (f *fleet) send(streams ...*stream) (end func()) {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	end = func() { stop(); wg.Wait() }
	f.t.Cleanup(end)
	for i, s := range streams {
		wg.Go(func() { s.run(ctx, f.l, string(rune('a'+i))) })
	}
	return end
}

// die kills one or more of the nodes and starts them again. dying, when set, is
// called with one of them just before, and dead while they are: the others serve
// on for a while, with or without a take-over.
func (f *fleet) die(dying func(*process), dead func()) {
	f.t.Helper()
	n := 1 + f.chance.IntN(len(f.ps))
	f.chance.Shuffle(len(f.ps), func(i, j int) { f.ps[i], f.ps[j] = f.ps[j], f.ps[i] })
	if dying != nil {
		dying(f.ps[0])
	}
	d := death{sent: time.Now()}
	for _, p := range f.ps[:n] {
		p.alive()
		p.kill()
	}
	d.dead = time.Now()
	f.deaths = append(f.deaths, d)
	if n < len(f.ps) {
		f.l.to(f.ps[n:]...)
		<-time.After(time.Duration(f.chance.Int64N(int64(2 * lease))))
	}
	if dead != nil {
		dead()
	}
	for i := range n {
		f.ps[i] = f.h.start()
	}
	f.l.to(f.ps...)
}
