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
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/store"
)

// Names in an archive, in their order. They are also those in a data folder.
const (
	manifestName = "manifest.json"
	keyName      = "secret.key"
	databaseName = "belfry.db"
)

// format is that of archives; a program reads those up to its own.
const format = 1

// Manifest says what an archive holds.
type Manifest struct {
	Format  int       `json:"format"`
	Program string    `json:"program"` // version of the program that wrote it
	Schema  int64     `json:"schema"`  // version of the database's
	Taken   time.Time `json:"taken"`
	Files   []File    `json:"files"`
}

// File is one of an archive, with its checksum.
type File struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// HasKey reports whether the archive has the secret key of the data folder.
func (m *Manifest) HasKey() bool { return m.file(keyName) != nil }

func (m *Manifest) file(name string) *File {
	for i := range m.Files {
		if m.Files[i].Name == name {
			return &m.Files[i]
		}
	}
	return nil
}

// Place is where a server has its data.
type Place struct {
	URL string // of the SQLite database
	Key string // file of the secret key, where one is made when none is configured
}

// Write writes an archive of a server, which may run meanwhile, to a file that
// is not there yet. It is readable by its owner alone: the key is in it.
func Write(ctx context.Context, from Place, to, program string, now func() time.Time) (m Manifest, err error) {
	if _, err := os.Lstat(to); err == nil {
		return m, fmt.Errorf("%s is there already: name another file", to)
	}
	look, err := store.OpenLook(ctx, store.Options{URL: from.URL, Log: slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("there is nothing to back up: %w", err)
		}
		return m, err
	}
	defer func() { err = errors.Join(err, look.Close()) }()
	// All beside the archive: what is there in the end is moved, not copied.
	work, err := os.MkdirTemp(filepath.Dir(to), ".belfry-backup-")
	if err != nil {
		return m, fmt.Errorf("the backup cannot be written: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	m = Manifest{Format: format, Program: program, Schema: look.Version, Taken: now().UTC()}
	copied := filepath.Join(work, databaseName)
	if err := look.Copy(ctx, copied); err != nil {
		return m, fmt.Errorf("the copy of the database in %s: %w", filepath.Dir(to), err)
	}
	sources := map[string]string{databaseName: copied}
	switch _, err := os.Stat(from.Key); {
	case err == nil:
		sources[keyName] = from.Key
	case !errors.Is(err, fs.ErrNotExist):
		return m, err
	}
	for _, name := range []string{keyName, databaseName} {
		if path, ok := sources[name]; ok {
			f, err := measure(name, path)
			if err != nil {
				return m, err
			}
			m.Files = append(m.Files, f)
		}
	}
	packed := filepath.Join(work, "archive")
	if err := pack(ctx, packed, &m, sources); err != nil {
		return m, fmt.Errorf("the backup cannot be written: %w", err)
	}
	// Not over a file that came meanwhile.
	if err := os.Link(packed, to); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return m, fmt.Errorf("%s is there already: name another file", to)
		}
		if err = os.Rename(packed, to); err != nil { // a file system without links
			return m, err
		}
	}
	return m, syncFolder(filepath.Dir(to))
}

func measure(name, path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	return File{Name: name, Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, err
}

func pack(ctx context.Context, to string, m *Manifest, sources map[string]string) error {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	zipped, err := gzip.NewWriterLevel(out, gzip.BestSpeed)
	if err != nil {
		return err
	}
	archive := tar.NewWriter(zipped)
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	add := func(name string, size int64, r io.Reader) error {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: m.Taken, Format: tar.FormatPAX}); err != nil {
			return err
		}
		_, err := io.Copy(archive, reader{ctx, r})
		return err
	}
	if err := add(manifestName, int64(len(text)), strings.NewReader(string(text))); err != nil {
		return err
	}
	for _, f := range m.Files {
		in, err := os.Open(sources[f.Name])
		if err != nil {
			return err
		}
		err = add(f.Name, f.Bytes, in)
		if err := errors.Join(err, in.Close()); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), zipped.Close(), out.Sync())
}

// reader ends when its context does: copies of large files are given up.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}

// Dump is the command that backs up a PostgreSQL database, and Undump the one
// that brings it back into an empty one. Passwords are left out: PGPASSWORD or
// ~/.pgpass gives them.
func Dump(database, file string) string {
	return "pg_dump --format=custom --no-owner --file=" + quote(file) + " " + quote(withoutPassword(database))
}

// Undump is the counterpart of Dump.
func Undump(database, file string) string {
	return "pg_restore --no-owner --exit-on-error --single-transaction --dbname=" + quote(withoutPassword(database)) + " " + quote(file)
}

func withoutPassword(database string) string {
	u, err := url.Parse(database)
	if err != nil {
		return "postgres://USER@HOST/NAME"
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	q := u.Query()
	q.Del("password")
	// What pgx knows and libpq does not.
	for _, own := range []string{"default_query_exec_mode", "statement_cache_capacity", "description_cache_capacity"} {
		q.Del(own)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// quote makes a word of a shell.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@=%+,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
