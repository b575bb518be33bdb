package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/store/storetest"
	"github.com/belfryhq/belfry/internal/testtime"
)

// awayError is what the store says when there is no database.
func awayError(t *testing.T) error {
	t.Helper()
	db := storetest.Open(t, storetest.PostgresPlace(t))
	ctx, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	err := db.Ping(ctx)
	if !store.Away(err) {
		t.Fatalf("%v is not taken for a database that is away", err)
	}
	return err
}

// However many loops fail while the database is away, the log says it once, then
// that it lasts at growing intervals, and once that it is over; what has other
// reasons is said as ever, and one failure beside a database that answers is one
// line.
// feature: NEW-12
func TestOutageIsSaidOnce(t *testing.T) {
	away := awayError(t)
	if store.Away(errors.New("something else")) || store.Away(nil) {
		t.Error("anything is taken for a database that is away")
	}
	testtime.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var text bytes.Buffer
		plain := slog.NewTextHandler(writer(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return text.Write(p)
		}), &slog.HandlerOptions{Level: slog.LevelInfo})
		lines := func() (out []string) {
			mu.Lock()
			defer mu.Unlock()
			for line := range strings.Lines(text.String()) {
				_, line, _ = strings.Cut(line, " ") // without its time
				out = append(out, strings.TrimSpace(line))
			}
			text.Reset()
			return out
		}
		o := newOutage(slog.New(plain))
		log := slog.New(o.handler(plain))
		ctx, cancel := context.WithCancel(t.Context())
		var down bool
		done := make(chan error)
		go func() {
			done <- o.watch(ctx, func(context.Context) error {
				mu.Lock()
				defer mu.Unlock()
				if down {
					return away
				}
				return nil
			})
		}()
		set := func(is bool) {
			mu.Lock()
			defer mu.Unlock()
			down = is
		}
		fail := func() {
			log.Error("sealing digests", "tenant", "a", "error", fmt.Errorf("sealing: %w", away))
		}
		holds := func(what string, got []string, want ...string) {
			t.Helper()
			if len(got) != len(want) {
				t.Fatalf("%s: %d lines, want %d:\n%s", what, len(got), len(want), strings.Join(got, "\n"))
			}
			for i := range want {
				if !strings.HasPrefix(got[i], want[i]) {
					t.Errorf("%s, line %d: %s, want %s", what, i, got[i], want[i])
				}
			}
		}
		fail()
		synctest.Wait()
		holds("one failure", lines(), `level=ERROR msg="sealing digests" tenant=a error="sealing: the database cannot be reached`)
		set(true)
		fail()
		synctest.Wait()
		loops := []*slog.Logger{log, log.With("node", "n1"), log.WithGroup("g")}
		for range 100 {
			for _, l := range loops {
				l.Error("looking", "error", away)
				l.Warn("looking again", "error", away)
			}
			<-time.After(time.Second)
		}
		log.Error("looking", "error", errors.New("of other reasons"))
		log.Info("told", "error", away)
		said := lines()
		const lasts = `level=ERROR msg="the database does not answer; what failed meanwhile is not logged one by one, and everything goes on when it is back" for=`
		holds("while it lasts", said, `level=ERROR msg="sealing digests"`, lasts+"10s failures_not_logged=6", lasts+"20s ", lasts+"40s ", lasts+"1m20s ",
			`level=ERROR msg=looking error="of other reasons"`, `level=INFO msg=told`)
		set(false)
		<-time.After(2 * time.Second)
		holds("over", lines(), `level=INFO msg="the database answers again" after=1m4`)
		set(true)
		fail()
		synctest.Wait()
		holds("the next one", lines(), `level=ERROR msg="sealing digests"`)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }
