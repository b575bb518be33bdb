package pipeline

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/channel"
)

// noStore is a store that holds nothing and takes everything: what is measured
// over it is the Dispatcher alone.
type noStore struct{ DeliveryStore }

func (noStore) Tenants(context.Context) ([]string, error) { return nil, nil }
func (noStore) DueDeliveries(context.Context, string, belfry.DueKey, time.Time, int, []int) ([]belfry.Delivery, error) {
	return nil, nil
}
func (noStore) NextDue(context.Context, string, time.Time, []int) (at time.Time, ok bool, err error) {
	return at, false, nil
}
func (noStore) Events(context.Context, string, []string) (map[string]*belfry.Accepted, error) {
	return nil, nil
}
func (noStore) RecordAttempts(_ context.Context, as []belfry.Attempt) ([]bool, error) {
	return make([]bool, len(as)), nil
}

type plainComposer struct{}

func (plainComposer) Expect(context.Context, string, []string) error { return nil }

func (plainComposer) Compose(_ context.Context, d *belfry.Delivery, _ *Payload) (Composed, error) {
	return Composed{Target: channel.Target{Address: d.Address}, Message: &belfry.Message{ID: d.ID}}, nil
}

// counting is a Sender that only counts.
type counting struct {
	n    atomic.Int64
	want int64
	done chan struct{}
}

func (c *counting) Send(context.Context, channel.Target, *belfry.Message) belfry.Outcome {
	if c.n.Add(1) == c.want {
		close(c.done)
	}
	return belfry.Outcome{Kind: belfry.OutcomeDelivered}
}
func (c *counting) Close() error { return nil }

type plainChannel struct {
	s     channel.Sender
	relay bool
}

func (p plainChannel) Channel(string, string) (Channel, bool) {
	return Channel{Sender: p.s, Concurrency: 512, Relay: p.relay}, true
}

// BenchmarkDispatch is what a delivery costs from its hand-over to the end of
// its record, store and send left out: to few endpoints, and to many addresses
// behind one relay.
func BenchmarkDispatch(b *testing.B) {
	for _, dests := range []int{50, 10_000} {
		b.Run(fmt.Sprintf("destinations=%d", dests), func(b *testing.B) {
			const page = 50
			warm := dests / page * page
			s := &counting{want: int64(warm), done: make(chan struct{})}
			d := NewDispatcher(DispatcherOptions{
				Store: &noStore{}, Channels: plainChannel{s, dests > 1000}, Composer: plainComposer{}, Aftermath: &goneList{}, Shards: Alone{}, Peers: Alone{}, In: &edits{}, Counters: NewCounters(),
				Log: slog.New(slog.DiscardHandler), Now: clock, Jitter: func() float64 { return 0 }, Poll: time.Hour,
			})
			ctx, stop := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { _ = d.Run(ctx) })
			names := make([]string, dests)
			for i := range names {
				names[i] = fmt.Sprintf("ep_%05d", i)
			}
			ids := make([]string, warm+b.N)
			for i := range ids {
				ids[i] = fmt.Sprintf("dlv_%012d", i)
			}
			give := func(from, to int) {
				for at := from; at < to; at += page {
					n := min(page, to-at)
					p := NewPayload(&belfry.Accepted{Tenant: "t", EventID: "evt", Event: &belfry.Event{Type: "x"}})
					ds := make([]belfry.Delivery, n)
					for i := range ds {
						name := names[(at+i)%dests]
						ds[i] = belfry.Delivery{Tenant: "t", ID: ids[at+i], EventID: "evt", Channel: "webhook", Address: name, Destination: name}
					}
					for d.InFlight() > DefaultWindow/2 {
						<-time.After(50 * time.Microsecond)
					}
					places := d.Reserve(ds, p)
					d.Handover(ds, p, places, false)
				}
			}
			give(0, warm) // so that each destination is known to answer
			<-s.done
			s.done = make(chan struct{})
			s.n.Store(0)
			s.want = int64(b.N)
			b.ReportAllocs()
			b.ResetTimer()
			give(warm, warm+b.N)
			<-s.done
			b.StopTimer()
			stop()
			running.Wait()
		})
	}
}
