//go:build linux

package faults_test

import (
	"database/sql"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/testdb"
)

// Killed at any moment, Belfry loses nothing that it answered 202, tells no
// inbox twice, and repeats only webhooks that were in flight.
// feature: NEW-10, NEW-12, NSY-10
func TestKilledInMidLoad(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		h := newHome(t)
		killRounds(t, h, 20)
		sound(t, filepath.Join(h.dir, "belfry.db"))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		killRounds(t, newHome(t, onPostgres(testdb.Postgres(t))...), 5)
	})
}

// death is a kill: sent and seen to have worked. Faults that leave a process
// alive are deaths too, of which sends may be unrecorded that were answered
// until some time after; zero = sent.
type death struct{ sent, dead, until time.Time }

const (
	// unrecorded is how long before a kill an answered send may lie and not be
	// recorded yet. In memory it is a commit or two, a few milliseconds; the
	// rest is for machines that are busy with other things.
	unrecorded = 2 * time.Second
	// inFlight is how many sends the program can have begun and not recorded:
	// those of the channel at once and half as many to slow receivers, the queue
	// of records and two recorders' batches.
	inFlight = 512 + 256 + 256 + 2*512
)

func killRounds(t *testing.T, h *home, short int) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	chance := rand.New(rand.NewPCG(seed, 0))

	p := h.start()
	a := furnish(t, p)
	l := newLoad(t, p)
	l.begin(2, 2, 20)
	var deaths []death
	for round := range rounds(t, short) {
		if round > 0 {
			p = h.spawn()
		}
		if round%5 == 4 { // while it starts, or soon after
			<-time.After(time.Duration(chance.Int64N(int64(200 * time.Millisecond))))
		} else {
			select {
			case <-p.up:
			case <-p.done:
				p.alive()
			case <-time.After(patience):
				t.Fatal("does not start")
			}
			l.to(p)
			<-time.After(time.Duration(chance.Int64N(int64(800 * time.Millisecond))))
		}
		d := death{sent: time.Now()}
		p.alive()
		p.signal(syscall.SIGKILL)
		p.exit()
		d.dead = time.Now()
		deaths = append(deaths, d)
	}
	p = h.start()
	l.to(p)
	l.end()
	l.settle(p, a)

	per := make([]int, len(deaths))
	total, oldest := 0, time.Duration(0)
	for _, r := range a.receivers() {
		for _, again := range r.repeats() {
			total++
			i := excuse(deaths, again)
			if i < 0 {
				t.Errorf("%s got event %s twice (%v, %v) and there was no kill between them, soon after the first", r.name, again.event, again.first.at, again.second.at)
				continue
			}
			per[i]++
			oldest = max(oldest, deaths[i].sent.Sub(again.first.answered))
		}
	}
	for i, n := range per {
		if n > inFlight {
			t.Errorf("kill %d was followed by %d repeats, and only %d sends can have been in flight", i, n, inFlight)
		}
	}
	t.Logf("%d kills, %d repeats of webhooks in all, by kill: %v; the oldest was answered %v before the kill", len(deaths), total, per, oldest.Round(time.Millisecond))
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// excuse finds the kill that a repeat is for: the one nearest to the first
// arrival, if that was in flight then and the second came after; -1 when there
// is none.
func excuse(deaths []death, again repeat) int {
	best, nearest := -1, unrecorded
	for i, d := range deaths {
		// What a process sent just before its end may be read from the socket a
		// little after it, and answered to nobody.
		first, age := again.first.answered, time.Duration(0)
		switch {
		case first.Before(d.sent):
			age = d.sent.Sub(first)
		case first.After(d.until):
			age = first.Sub(later(d.sent, d.until))
		}
		if !again.second.at.Before(d.sent) && age <= nearest {
			best, nearest = i, age
		}
	}
	return best
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// A first start that is killed while it makes the database leaves nothing that
// a second start cannot use.
// feature: NEW-12
func TestKilledOnFirstStart(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"SQLite", "PostgreSQL"} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			for range rounds(t, 4) {
				var settings []string
				if engine == "PostgreSQL" {
					settings = onPostgres(testdb.Postgres(t))
				}
				h := newHome(t, settings...)
				p := h.spawn()
				<-time.After(time.Duration(rand.Int64N(int64(120 * time.Millisecond))))
				p.kill()
				p = h.start()
				p.call("GET", "/v1/events", nil, nil)
				p.kill()
			}
		})
	}
}

// sound asks SQLite itself whether the file is whole.
func sound(t *testing.T, file string) {
	t.Helper()
	db, err := sql.Open("sqlite", file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var says string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&says); err != nil || says != "ok" {
		t.Errorf("integrity check: %s, %v", says, err)
	}
}
