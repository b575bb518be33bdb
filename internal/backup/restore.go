package backup

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/belfryhq/belfry/internal/store"
)

// Restore are the terms of bringing an archive back.
type Restore struct {
	Archive string
	To      Place
	// Force lets a data folder be used already: what is in it is moved aside.
	Force bool
	// Prepare does something to the database, at this URL, before it is put in
	// its place; nil = nothing.
	Prepare func(ctx context.Context, url string, m *Manifest) error
	Now     func() time.Time
}

// Restored says what was done.
type Restored struct {
	Manifest Manifest
	Database string // file
	Key      string // file; empty when the archive has none
	Aside    string // folder of what was there; empty when nothing was
}

// Run brings an archive back. When it fails, the data folder is as it was.
func (r Restore) Run(ctx context.Context) (out Restored, err error) {
	database, unlock, err := store.LockFile(r.To.URL)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	dir := filepath.Dir(database)
	there, err := used(database, r.To.Key)
	if err != nil {
		return out, err
	}
	if len(there) > 0 && !r.Force {
		return out, fmt.Errorf("%s is there already: restore into an empty data folder, or give --force, which moves what is there aside", there[0])
	}
	work, err := os.MkdirTemp(dir, ".belfry-restore-")
	if err != nil {
		return out, fmt.Errorf("the data folder cannot be written: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if out.Manifest, err = unpack(ctx, r.Archive, work); err != nil {
		return out, err
	}
	fresh := filepath.Join(work, databaseName)
	if err := r.check(ctx, fresh, &out.Manifest); err != nil {
		return out, err
	}
	if r.Prepare != nil {
		if err := r.Prepare(ctx, "sqlite:"+fresh, &out.Manifest); err != nil {
			return out, err
		}
	}
	if len(there) > 0 {
		out.Aside = filepath.Join(dir, "before-restore-"+r.Now().UTC().Format("20060102T150405Z"))
		if err := os.Mkdir(out.Aside, 0o700); err != nil {
			return out, err
		}
	}
	return out, r.move(&out, there, work, database)
}

// used are the files of a server in its place.
func used(database, key string) (list []string, err error) {
	for _, path := range []string{database, database + "-wal", database + "-shm", key} {
		switch _, err := os.Lstat(path); {
		case err == nil:
			list = append(list, path)
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	return list, nil
}

// move puts what was there aside and what was restored in its place, the
// database last: without it no server starts with half of a backup.
func (r Restore) move(out *Restored, there []string, work, database string) (err error) {
	var undo []func() error
	rename := func(from, to string) error {
		if err := os.Rename(from, to); err != nil {
			return err
		}
		undo = append(undo, func() error { return os.Rename(to, from) })
		return nil
	}
	defer func() {
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
		if err != nil && out.Aside != "" {
			err = errors.Join(err, os.Remove(out.Aside))
		}
	}()
	for _, path := range there {
		to := filepath.Join(out.Aside, filepath.Base(path))
		if filepath.Dir(path) != filepath.Dir(database) { // perhaps another disk
			to = path + "." + filepath.Base(out.Aside)
		}
		if err := rename(path, to); err != nil {
			return err
		}
	}
	if out.Manifest.HasKey() {
		key, err := os.ReadFile(filepath.Join(work, keyName))
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(r.To.Key), 0o700); err != nil {
			return err
		}
		undo = append(undo, func() error { return os.Remove(r.To.Key) })
		if err := os.WriteFile(r.To.Key, key, 0o600); err != nil {
			return err
		}
		out.Key = r.To.Key
	}
	if err := rename(filepath.Join(work, databaseName), database); err != nil {
		return err
	}
	out.Database = database
	return syncFolder(filepath.Dir(database))
}

// check refuses a database that is not what the manifest says.
func (r Restore) check(ctx context.Context, path string, m *Manifest) error {
	look, err := store.OpenLook(ctx, store.Options{URL: "sqlite:" + path, Log: slog.New(slog.DiscardHandler), Now: r.Now})
	if err != nil {
		return err
	}
	defer func() { _ = look.Close() }()
	if look.Version != m.Schema {
		return fmt.Errorf("%s says that its database has schema version %d, and it has %d: it was changed by hand", r.Archive, m.Schema, look.Version)
	}
	return nil
}

// most is how large a manifest may be.
const most = 1 << 20

// unpack writes the files of an archive into a folder and holds them to their
// checksums.
func unpack(ctx context.Context, path, into string) (m Manifest, err error) {
	in, err := os.Open(path)
	if err != nil {
		return m, fmt.Errorf("the backup cannot be read: %w", err)
	}
	defer in.Close()
	broken := func(err error) error {
		return fmt.Errorf("%s is no whole backup of Belfry: %w; take another", path, err)
	}
	zipped, err := gzip.NewReader(reader{ctx, in})
	if err != nil {
		return m, broken(err)
	}
	archive := tar.NewReader(zipped)
	head, err := archive.Next()
	if err == nil && head.Name != manifestName {
		err = fmt.Errorf("it begins with %q", head.Name)
	}
	if err != nil {
		return m, broken(err)
	}
	text, err := io.ReadAll(io.LimitReader(archive, most))
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return m, broken(err)
	}
	newest, err := store.NewestSchema()
	switch {
	case err != nil:
		return m, err
	case m.Format > format, m.Schema > newest:
		return m, fmt.Errorf("%s was written by a newer Belfry, %s: its schema has version %d and this program knows %d; restore it with that program", path, m.Program, m.Schema, newest)
	case m.Format < 1 || m.file(databaseName) == nil:
		return m, broken(errors.New("its manifest names no database"))
	}
	for _, f := range m.Files {
		if f.Name != databaseName && f.Name != keyName { // nothing outside the folder, and nothing unknown
			return m, broken(fmt.Errorf("it holds %q", f.Name))
		}
		head, err := archive.Next()
		if err == nil && (head.Name != f.Name || head.Size != f.Bytes) {
			err = fmt.Errorf("it holds %q of %d bytes where its manifest names %q of %d", head.Name, head.Size, f.Name, f.Bytes)
		}
		if err != nil {
			return m, broken(err)
		}
		if err := extract(archive, filepath.Join(into, f.Name), &f); err != nil {
			return m, broken(err)
		}
	}
	// To the end, where the checksum of the compression is.
	if _, err := io.Copy(io.Discard, zipped); err != nil {
		return m, broken(err)
	}
	return m, nil
}

func extract(from io.Reader, to string, f *File) error {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, sum), from); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.SHA256 {
		return fmt.Errorf("%s has another checksum than its manifest says", f.Name)
	}
	return out.Sync()
}
