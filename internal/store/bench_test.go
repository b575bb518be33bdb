package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
)

// The figures of these benchmarks are rows a second with syncs on, reported as
// rows/s; one operation is one call of a door by one of several callers.

func engines(b *testing.B, run func(b *testing.B, db *store.DB)) {
	b.Run("sqlite", func(b *testing.B) { run(b, storetest.SQLite(b)) })
	b.Run("postgres", func(b *testing.B) {
		db := storetest.Postgres(b)
		makePartitions(b, db, time.Now())
		run(b, db)
	})
}

// makePartitions makes those that a server makes before it begins.
func makePartitions(b *testing.B, db *store.DB, now time.Time) {
	for _, p := range belfry.Parts() {
		if _, err := db.MakePartitions(context.Background(), p, now, 7*24*time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}

// spent is the processor time of the last spread.
var spent time.Duration

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// spread calls f for each n below total from several goroutines.
func spread(b *testing.B, callers, total int, f func(n int) error) {
	b.Helper()
	var next sync.Mutex
	n := 0
	take := func() int {
		next.Lock()
		defer next.Unlock()
		if n == total {
			return -1
		}
		n++
		return n - 1
	}
	errs := make(chan error, callers)
	cpu := cpuTime()
	b.ResetTimer()
	for range callers {
		go func() {
			for {
				n := take()
				if n < 0 {
					errs <- nil
					return
				}
				if err := f(n); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	spent = cpuTime() - cpu
}

// rate reports rows a second, and the processor time of this process a row.
func rate(b *testing.B, rows int) {
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64(spent.Nanoseconds())/1e3/float64(rows), "cpu-µs/row")
}

func draft(b *testing.B, id string) belfry.Draft {
	e := &belfry.Event{ID: id, Source: "/moodle", Type: "core.course_updated", Time: time.Now().UTC(), Object: "course/41", Actor: "user/8",
		Data: json.RawMessage(`{"shortname":"CPR","fullname":"Cardiopulmonary Resuscitation"}`), Record: json.RawMessage(`{"id":41,"fullname":"Cardiopulmonary Resuscitation"}`)}
	body, err := json.Marshal(e)
	if err != nil {
		b.Fatal(err)
	}
	return belfry.Draft{Tenant: belfry.DefaultTenant, Event: e, Body: body}
}

func BenchmarkAcceptEvents(b *testing.B) {
	for _, size := range []int{100, 1} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			engines(b, func(b *testing.B, db *store.DB) {
				ctx := context.Background()
				drafts := make([][]belfry.Draft, b.N)
				for i := range drafts {
					for j := range size {
						drafts[i] = append(drafts[i], draft(b, fmt.Sprintf("%d-%d", i, j)))
					}
				}
				b.ReportAllocs()
				callers := 16
				if size == 1 {
					callers = 256
				}
				spread(b, callers, b.N, func(n int) error {
					_, err := db.AcceptEvents(ctx, drafts[n])
					return err
				})
				rate(b, size*b.N)
			})
		})
	}
}

// accepted stores n events and gives their ids.
func accepted(b *testing.B, db *store.DB, n int) []string {
	ids := make([]string, 0, n)
	for len(ids) < n {
		var drafts []belfry.Draft
		for i := range min(1000, n-len(ids)) {
			drafts = append(drafts, draft(b, fmt.Sprintf("e%d", len(ids)+i)))
		}
		rs, err := db.AcceptEvents(context.Background(), drafts)
		if err != nil {
			b.Fatal(err)
		}
		for _, r := range rs {
			ids = append(ids, r.EventID)
		}
	}
	return ids
}

func page(eventID string, deliveries int) belfry.PlanPage {
	p := belfry.PlanPage{Tenant: belfry.DefaultTenant, EventID: eventID, Last: true, Matches: []belfry.MatchNote{{Subscription: "sub_06gzsmwvmc001zs72t8phwq9ng",
		Because: []belfry.Reason{{Code: belfry.ScopeMatched, Object: "course/41"}, {Code: belfry.TypeMatched, Detail: "core.course_*"}}}}}
	due := time.Now().UTC()
	for i := range deliveries {
		endpoint := fmt.Sprintf("ep_06gzsmwvmc001zs72t8phw%04d", i)
		p.Deliveries = append(p.Deliveries, belfry.Delivery{
			Tenant: belfry.DefaultTenant, ID: belfry.DeliveryID(eventID, 0, belfry.ChannelWebhook, endpoint), EventID: eventID,
			Subscription: "sub_06gzsmwvmc001zs72t8phwq9ng", Channel: belfry.ChannelWebhook, Address: endpoint, Destination: endpoint,
			Shard: belfry.Shard(belfry.DefaultTenant, endpoint), Due: due,
			Because: []belfry.Reason{{Code: belfry.NamedEndpoint, Subscription: "sub_06gzsmwvmc001zs72t8phwq9ng", Detail: endpoint}, {Code: belfry.BySubscription}},
		})
	}
	return p
}

func BenchmarkCommitPlans(b *testing.B) {
	for _, size := range []int{1000, 1} {
		b.Run(fmt.Sprintf("deliveries=%d", size), func(b *testing.B) {
			engines(b, func(b *testing.B, db *store.DB) {
				ids := accepted(b, db, b.N)
				pages := make([]belfry.PlanPage, b.N)
				for i := range pages {
					pages[i] = page(ids[i], size)
				}
				b.ReportAllocs()
				callers := 4
				if size == 1 {
					callers = 256
				}
				spread(b, callers, b.N, func(n int) error { return commit(db, pages[n:n+1]) })
				rate(b, size*b.N)
			})
		})
	}
}

func commit(db *store.DB, pages []belfry.PlanPage) error {
	errs, err := db.CommitPlans(context.Background(), pages)
	for _, e := range errs {
		if err == nil {
			err = e
		}
	}
	return err
}

func BenchmarkRecordAttempts(b *testing.B) {
	for _, size := range []int{100, 1} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			engines(b, func(b *testing.B, db *store.DB) {
				const fan = 1000
				total := b.N * size
				ids := accepted(b, db, total/fan+1)
				var attempts []belfry.Attempt
				for _, id := range ids {
					p := page(id, fan)
					if err := commit(db, []belfry.PlanPage{p}); err != nil {
						b.Fatal(err)
					}
					for _, d := range p.Deliveries {
						attempts = append(attempts, belfry.Attempt{Tenant: d.Tenant, DeliveryID: d.ID, N: 1, At: time.Now().UTC(), Took: 1234 * time.Microsecond,
							Outcome: belfry.Outcome{Status: 204}, State: belfry.Delivered})
					}
				}
				b.ReportAllocs()
				callers := 16
				if size == 1 {
					callers = 256
				}
				spread(b, callers, b.N, func(n int) error {
					_, err := db.RecordAttempts(context.Background(), attempts[n*size:(n+1)*size])
					return err
				})
				rate(b, size*b.N)
			})
		})
	}
}

// BenchmarkFlow is the life of deliveries: accepted, planned, recorded, with
// as much of it at once as a busy server has. One operation is one delivery.
func BenchmarkFlow(b *testing.B) {
	for _, fan := range []int{1000, 1} {
		b.Run(fmt.Sprintf("fan=%d", fan), func(b *testing.B) {
			engines(b, func(b *testing.B, db *store.DB) {
				ctx := context.Background()
				events := b.N/fan + 1
				drafts := make([]belfry.Draft, events)
				for i := range drafts {
					drafts[i] = draft(b, fmt.Sprint("e", i))
				}
				callers := 4
				if fan == 1 {
					callers = 256
				}
				b.ReportAllocs()
				spread(b, callers, events, func(n int) error {
					rs, err := db.AcceptEvents(ctx, drafts[n:n+1])
					if err != nil {
						return err
					}
					p := page(rs[0].EventID, fan)
					if err := commit(db, []belfry.PlanPage{p}); err != nil {
						return err
					}
					var wait sync.WaitGroup
					failed := make(chan error, fan)
					for at := 0; at < fan; at += 100 {
						ds := p.Deliveries[at:min(at+100, fan)]
						wait.Go(func() {
							attempts := make([]belfry.Attempt, len(ds))
							for i, d := range ds {
								attempts[i] = belfry.Attempt{Tenant: d.Tenant, DeliveryID: d.ID, N: 1, At: time.Now().UTC(), Took: 1234 * time.Microsecond,
									Outcome: belfry.Outcome{Status: 204}, State: belfry.Delivered}
							}
							if _, err := db.RecordAttempts(ctx, attempts); err != nil {
								failed <- err
							}
						})
					}
					wait.Wait()
					select {
					case err := <-failed:
						return err
					default:
						return nil
					}
				})
				rate(b, fan*events)
			})
		})
	}
}

// BenchmarkPersons reads people in pages, as planning for very many does; one
// operation is one person.
func BenchmarkPersons(b *testing.B) {
	for _, page := range []int{256, 1000} {
		b.Run(fmt.Sprintf("page=%d", page), func(b *testing.B) {
			engines(b, func(b *testing.B, db *store.DB) {
				ctx := context.Background()
				const people = 20_000
				ch := belfry.Changes{Tenant: belfry.DefaultTenant}
				ids := make([]string, people)
				for i := range people {
					ids[i] = fmt.Sprintf("user/%07d", i)
					ch.Users = append(ch.Users, belfry.User{ID: ids[i], Name: "Somebody " + ids[i], Email: fmt.Sprintf("u%d@example.org", i), Locale: "en", State: belfry.UserActive})
				}
				if _, err := db.Apply(ctx, ch); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				spread(b, 1, b.N/page+1, func(n int) error {
					at := n * page % (people - page)
					got, err := db.Persons(ctx, belfry.DefaultTenant, ids[at:at+page])
					if err == nil && len(got) != page {
						b.Errorf("%d people of %d", len(got), page)
					}
					return err
				})
				rate(b, (b.N/page+1)*page)
			})
		})
	}
}

// inboxPage is a page of inbox rows, one a person, of those who joined.
func inboxPage(eventID string, people int) belfry.PlanPage {
	p := belfry.PlanPage{Tenant: belfry.DefaultTenant, EventID: eventID, Last: true}
	because := []belfry.Reason{{Code: belfry.NamedMember, Subscription: "sub_06gzsmwvmc001zs72t8phwq9ng"}, {Code: belfry.BySubscription, Subscription: "sub_06gzsmwvmc001zs72t8phwq9ng"}}
	for i := range people {
		user := fmt.Sprintf("user/%07d", i)
		p.Deliveries = append(p.Deliveries, belfry.Delivery{
			Tenant: belfry.DefaultTenant, ID: belfry.DeliveryID(eventID, 0, belfry.ChannelInbox, user), EventID: eventID, Channel: belfry.ChannelInbox,
			Subscription: "sub_06gzsmwvmc001zs72t8phwq9ng", Principal: user, Address: user, Destination: user, State: belfry.Delivered, Locale: "en", Because: because,
		})
	}
	return p
}

// BenchmarkInbox is one event to 250 people who have so many rows already. A
// row's place in the index of persons is with the person's others: the deeper
// the inboxes, the fewer people share a page of it, down to one.
func BenchmarkInbox(b *testing.B) {
	for _, depth := range []int{0, 100} {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) {
			engines(b, func(b *testing.B, db *store.DB) {
				const people = 250
				events := b.N/people + 1
				ids := accepted(b, db, depth+events)
				for _, id := range ids[:depth] {
					if err := commit(db, []belfry.PlanPage{inboxPage(id, people)}); err != nil {
						b.Fatal(err)
					}
				}
				spread(b, 1, events, func(n int) error { return commit(db, []belfry.PlanPage{inboxPage(ids[depth+n], people)}) })
				rate(b, events*people)
			})
		})
	}
}

// BenchmarkInboxOfMany is one event to the inboxes of many people who have
// entries already, page after page in the order of their names, as planning
// goes; one operation is one person.
func BenchmarkInboxOfMany(b *testing.B) {
	engines(b, func(b *testing.B, db *store.DB) {
		const stored, perPage = 5, 1000
		people := max(b.N, 200_000)
		told := func(id string) {
			from := ""
			for at := 0; at < people; at += perPage {
				n := min(perPage, people-at)
				p := belfry.PlanPage{Tenant: belfry.DefaultTenant, EventID: id, From: from, To: fmt.Sprint(at + n), Last: at+n == people}
				because := []belfry.Reason{{Code: belfry.NamedMember, Subscription: "sub_06gzsmwvmc001zs72t8phwq9ng"}, {Code: belfry.BySubscription}}
				for i := range n {
					who := fmt.Sprintf("user/%d", 1_000_000+at+i)
					p.Deliveries = append(p.Deliveries, belfry.Delivery{Tenant: p.Tenant, ID: belfry.DeliveryID(id, 0, belfry.ChannelInbox, who), EventID: id,
						Subscription: "sub_06gzsmwvmc001zs72t8phwq9ng", Channel: belfry.ChannelInbox, Principal: who, Address: who, Destination: who,
						Shard: belfry.Shard(p.Tenant, who), State: belfry.Delivered, Because: because})
				}
				if err := commit(db, []belfry.PlanPage{p}); err != nil {
					b.Fatal(err)
				}
				from = p.To
			}
		}
		ids := accepted(b, db, stored+1)
		for _, id := range ids[:stored] {
			told(id)
		}
		spread(b, 1, 1, func(int) error { told(ids[stored]); return nil })
		rate(b, people)
	})
}
