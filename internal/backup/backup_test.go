package backup_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/belfryhq/belfry/internal/backup"
	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store"
	"github.com/belfryhq/belfry/internal/testdb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testdb.Wrap(m)) }

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

func open(t *testing.T, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{URL: url, Log: slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func accept(ctx context.Context, db *store.DB, id string) error {
	e := &belfry.Event{ID: id, Source: "/s", Type: "x"}
	body, err := json.Marshal(e)
	if err == nil {
		_, err = db.AcceptEvents(ctx, []belfry.Draft{{Tenant: "t", Event: e, Body: body}})
	}
	return err
}

func events(t *testing.T, url string) int64 {
	t.Helper()
	db := open(t, url)
	n, err := db.CountEvents(t.Context(), "t", belfry.EventSelect{Until: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return n
}

// place is a data folder that is made by whoever needs it.
func place(dir string) backup.Place {
	return backup.Place{URL: "sqlite:" + dir, Key: filepath.Join(dir, "secret.key")}
}

func restore(t *testing.T, archive, dir string, force bool) (backup.Restored, error) {
	t.Helper()
	return backup.Restore{Archive: archive, To: place(dir), Force: force, Now: now}.Run(t.Context())
}

// A backup beside a server that works has all that was acknowledged before it
// began, and is whole.
func TestBackupWhileTheServerWorks(t *testing.T) {
	dir, archive := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "b.tar.gz")
	if _, err := backup.Write(t.Context(), place(dir), archive, "1.2.3", now); err == nil || !strings.Contains(err.Error(), "there is nothing to back up") {
		t.Errorf("of nothing: %v", err)
	}
	db := open(t, "sqlite:"+dir)
	if err := os.WriteFile(filepath.Join(dir, "secret.key"), []byte("the key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if err := accept(t.Context(), db, fmt.Sprint("before", i)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			if err := accept(ctx, db, fmt.Sprint("meanwhile", i)); err != nil {
				ended <- err
				return
			}
		}
	}()
	m, err := backup.Write(t.Context(), place(dir), archive, "1.2.3", now)
	stop()
	if e := <-ended; !errors.Is(e, context.Canceled) {
		t.Errorf("the server was disturbed: %v", e)
	}
	newest, _ := store.NewestSchema()
	if err != nil || m.Program != "1.2.3" || m.Schema != newest || !m.HasKey() || len(m.Files) != 2 || time.Since(m.Taken) > time.Minute {
		t.Fatalf("%+v, %v", m, err)
	}
	info, err := os.Stat(archive)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the archive may be read by others: %v %v", info, err)
	}
	if left, err := os.ReadDir(filepath.Dir(archive)); err != nil || len(left) != 1 {
		t.Errorf("beside the archive: %v %v", left, err)
	}
	if _, err := backup.Write(t.Context(), place(dir), archive, "1.2.3", now); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("over an archive: %v", err)
	}

	// Not while the server runs, and not over what is there.
	if _, err := restore(t, archive, dir, true); err == nil || !strings.Contains(err.Error(), "another Belfry process works with") {
		t.Errorf("beside a server: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := restore(t, archive, dir, false); err == nil || !strings.Contains(err.Error(), "restore into an empty data folder, or give --force") {
		t.Errorf("over a server's data: %v", err)
	}

	fresh := filepath.Join(t.TempDir(), "new", "data")
	done, err := restore(t, archive, fresh, false)
	if err != nil || done.Aside != "" || done.Key != filepath.Join(fresh, "secret.key") || done.Database != filepath.Join(fresh, "belfry.db") {
		t.Fatalf("%+v, %v", done, err)
	}
	key, err := os.ReadFile(done.Key)
	if info, e := os.Stat(done.Key); err != nil || e != nil || string(key) != "the key\n" || info.Mode().Perm() != 0o600 {
		t.Errorf("%q %v %v", key, err, e)
	}
	if n := events(t, "sqlite:"+fresh); n < 100 {
		t.Errorf("%d events are there, of 100 that were acknowledged", n)
	}

	// By force what is there is moved, not lost.
	was := events(t, "sqlite:"+dir)
	done, err = restore(t, archive, dir, true)
	if err != nil || done.Aside == "" {
		t.Fatalf("%+v, %v", done, err)
	}
	if n := events(t, "sqlite:"+done.Aside); n != was {
		t.Errorf("%d events are kept aside of %d", n, was)
	}
	if key, err := os.ReadFile(filepath.Join(done.Aside, "secret.key")); err != nil || string(key) != "the key\n" {
		t.Errorf("%q %v", key, err)
	}
	if n := events(t, "sqlite:"+dir); n < 100 || n > was {
		t.Errorf("%d events are brought back", n)
	}
}

// rewrite makes an archive of another's entries, changed.
func rewrite(t *testing.T, archive string, change func(name string, content []byte) (string, []byte)) string {
	t.Helper()
	in, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	zipped, err := gzip.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for r := tar.NewReader(zipped); ; {
		head, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		name, content := change(head.Name, content)
		if name == "" {
			continue
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "changed.tar.gz")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Nothing is brought back that is not what was backed up, and a refusal leaves
// the folder as it was.
func TestRefusedBackups(t *testing.T) {
	dir, archive := t.TempDir(), filepath.Join(t.TempDir(), "b.tar.gz")
	if err := open(t, "sqlite:"+dir).Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "secret.key"), []byte("the key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Write(t.Context(), place(dir), archive, "1.2.3", now); err != nil {
		t.Fatal(err)
	}
	manifest := func(change func(m *backup.Manifest)) string {
		return rewrite(t, archive, func(name string, content []byte) (string, []byte) {
			if name == "manifest.json" {
				var m backup.Manifest
				if err := json.Unmarshal(content, &m); err != nil {
					t.Fatal(err)
				}
				change(&m)
				content, _ = json.Marshal(m)
			}
			return name, content
		})
	}
	whole, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(t.TempDir(), "half.tar.gz")
	if err := os.WriteFile(half, whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ archive, want string }{
		"nothing":        {filepath.Join(dir, "nowhere"), "cannot be read"},
		"another file":   {text, "is no whole backup of Belfry"},
		"half of one":    {half, "is no whole backup of Belfry"},
		"a newer schema": {manifest(func(m *backup.Manifest) { m.Schema += 1000 }), "was written by a newer Belfry, 1.2.3"},
		"a newer format": {manifest(func(m *backup.Manifest) { m.Format++ }), "was written by a newer Belfry"},
		"another schema": {manifest(func(m *backup.Manifest) { m.Schema-- }), "it was changed by hand"},
		"a path":         {manifest(func(m *backup.Manifest) { m.Files[0].Name = "../secret.key" }), `it holds "../secret.key"`},
		"no database":    {manifest(func(m *backup.Manifest) { m.Files = m.Files[:1] }), "names no database"},
		"another key": {rewrite(t, archive, func(n string, b []byte) (string, []byte) {
			return n, bytes.Replace(b, []byte("the key"), []byte("a k e y"), 1)
		}), "secret.key has another checksum"},
		"no manifest":     {rewrite(t, archive, func(n string, b []byte) (string, []byte) { return strings.TrimPrefix(n, "manifest.json"), b }), `it begins with "secret.key"`},
		"a file too many": {manifest(func(m *backup.Manifest) { m.Files = append(m.Files, m.Files[0]) }), "is no whole backup of Belfry"},
	} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "data")
			if _, err := restore(t, c.archive, to, false); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			left, err := os.ReadDir(to)
			if err != nil || len(left) != 1 || left[0].Name() != "belfry.db.lock" {
				t.Errorf("the folder has %v, %v", left, err)
			}
		})
	}
	// What is done before all is in place fails, and nothing is in place.
	to := filepath.Join(t.TempDir(), "data")
	r := backup.Restore{Archive: archive, To: place(to), Now: now, Prepare: func(context.Context, string, *backup.Manifest) error { return errors.New("no room") }}
	if _, err := r.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Error(err)
	}
	if left, _ := os.ReadDir(to); len(left) != 1 {
		t.Errorf("the folder has %v", left)
	}
}

// The commands named for PostgreSQL do it, and show no password.
func TestPostgresCommands(t *testing.T) {
	for _, tool := range []string{"pg_dump", "pg_restore"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%s is not there: it comes with the client of PostgreSQL", tool)
		}
	}
	from, to := testdb.Postgres(t), testdb.Postgres(t)
	db := open(t, from)
	for i := range 10 {
		if err := accept(t.Context(), db, fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(t.TempDir(), "it's a dump")
	for _, command := range []string{backup.Dump(from, file), backup.Undump(to, file)} {
		if out, err := exec.CommandContext(t.Context(), "sh", "-c", command).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	if n := events(t, to); n != 10 {
		t.Errorf("%d of 10 events are there", n)
	}
	got := backup.Dump("postgres://u:hunter2@h/d?sslmode=require&password=hunter2&default_query_exec_mode=exec", "f")
	if regexp.MustCompile("hunter2|exec_mode").MatchString(got) || !strings.Contains(got, "'postgres://u@h/d?sslmode=require'") {
		t.Error(got)
	}
	if _, err := backup.Write(t.Context(), backup.Place{URL: from}, filepath.Join(t.TempDir(), "x"), "1", now); err == nil || !strings.Contains(err.Error(), "pg_dump") {
		t.Errorf("of PostgreSQL: %v", err)
	}
}
