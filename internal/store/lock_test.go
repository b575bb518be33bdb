//go:build unix

package store_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
)

// Whoever only looks at a data folder keeps no server from starting: it is waited
// for. A server is not.
func TestStartBesideWhoLooks(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	url := "sqlite:" + dir
	db, err := store.Open(ctx, options(url))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(ctx, options(url)); belfry.KindOf(err) != belfry.Conflict {
		t.Errorf("beside a server: %v", err)
	}
	if l, err := store.OpenLook(ctx, options(url)); err != nil || !l.InUse || l.Close() != nil {
		t.Fatal(l, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "belfry.db.lock"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	if l, err := store.OpenLook(ctx, options(url)); err != nil || l.InUse || l.Close() != nil {
		t.Fatalf("who looks is taken for a server: %+v, %v", l, err)
	}
	started := make(chan error, 1)
	go func() {
		db, err := store.Open(ctx, options(url))
		if err == nil {
			err = db.Close()
		}
		started <- err
	}()
	select {
	case err := <-started:
		t.Fatalf("did not wait for who looks: %v", err)
	default:
	}
	if err := f.Close(); err != nil { // and with it the lock
		t.Fatal(err)
	}
	if err := <-started; err != nil {
		t.Error(err)
	}

	// Looked at all the time, it starts each time.
	stop, looked := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				looked <- nil
				return
			default:
			}
			l, err := store.OpenLook(ctx, options(url))
			if err == nil {
				err = l.Close()
			}
			if err != nil {
				looked <- err
				return
			}
		}
	}()
	for range 20 {
		db, err := store.Open(ctx, options(url))
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-looked; err != nil {
		t.Error(err)
	}
}
