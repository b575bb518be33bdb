package store

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// What is committed reaches the database file before the writer's own
// checkpoint is due, and the log does not grow for ever under steady writing.
func TestCheckpointsGoOnBesideTheWriter(t *testing.T) {
	ctx := context.Background()
	path := filepath.Join(t.TempDir(), "belfry.db")
	db, err := Open(ctx, Options{URL: "sqlite:" + path, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	size := func(name string) int64 {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	users := func(round, n int) {
		ch := belfry.Changes{Tenant: "t"}
		for i := range n {
			ch.Users = append(ch.Users, belfry.User{ID: fmt.Sprintf("user/%03d-%05d", round, i), Name: fmt.Sprintf("%0200d", i), State: belfry.UserActive})
		}
		if _, err := db.Apply(ctx, ch); err != nil {
			t.Fatal(err)
		}
	}
	before := size(path)
	users(0, checkpointRows) // less than a tenth of what makes the writer do it
	select {
	case <-db.checkpoints.since:
	case <-time.After(time.Minute):
		t.Fatal("no checkpoint within a minute")
	}
	if now := size(path); now < before+checkpointRows*200 {
		t.Errorf("the file has %d bytes after a checkpoint of %d rows, %d before", now, checkpointRows, before)
	}
	for round := range 40 {
		users(1+round, 2000)
	}
	// Twice the log's length at which the writer takes part, and a commit.
	if log := size(path + "-wal"); log > 3*8000*4096 {
		t.Errorf("the log has %d bytes", log)
	}
	if ids, err := db.UserIDs(ctx, "t", "", 1_000_000); err != nil || len(ids) != checkpointRows+40*2000 {
		t.Errorf("%d users, %v", len(ids), err)
	}
}
