package store

import (
	"bytes"
	"context"
	"database/sql"
	"io"
	"io/fs"
	"regexp"

	"github.com/pressly/goose/v3"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/store/migrations"
)

// migrate brings the schema to the program's version and refuses one that is
// newer.
func migrate(ctx context.Context, db *sql.DB, dialect goose.Dialect) error {
	var files fs.FS = migrations.Files
	if dialect == goose.DialectPostgres {
		files = translated{files}
	}
	p, err := goose.NewProvider(dialect, db, files, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return err
	}
	if current > target {
		return belfry.Errorf(belfry.Conflict, "the database was written by a newer Belfry: its schema has version %d and this program knows %d; "+
			"run the newer program, or restore a backup made before the upgrade", current, target)
	}
	if current == target {
		return nil
	}
	_, err = p.Up(ctx)
	return err
}

// translated rewrites the migrations for PostgreSQL. Text sorts and compares
// by bytes there as it does in SQLite and in Go, whatever the database's
// locale. Lines that begin with "-- postgres: " are for it alone, those that end
// with "-- sqlite" are not for it.
type translated struct{ fs.FS }

var toPostgres = []struct {
	word *regexp.Regexp
	by   string
}{
	{regexp.MustCompile(`\bTEXT\b`), `TEXT COLLATE "C"`},
	{regexp.MustCompile(`\bBLOB\b`), `BYTEA`},
	{regexp.MustCompile(`\) WITHOUT ROWID;`), `);`},
	{regexp.MustCompile(`(?m)^-- postgres: `), ``}, // statements for it alone
	{regexp.MustCompile(`(?m)^.* -- sqlite$`), ``}, // and not for it
	// One of them may have semicolons within.
	{regexp.MustCompile(`(?m)^-- postgres begin$`), `-- +goose StatementBegin`},
	{regexp.MustCompile(`(?m)^-- postgres end$`), `-- +goose StatementEnd`},
}

// Open opens a file for reading, translated.
func (t translated) Open(name string) (fs.File, error) {
	f, err := t.FS.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return f, err
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	for _, t := range toPostgres {
		text = t.word.ReplaceAll(text, []byte(t.by))
	}
	return &translatedFile{Reader: bytes.NewReader(text), info: info}, nil
}

type translatedFile struct {
	*bytes.Reader
	info fs.FileInfo
}

func (f *translatedFile) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *translatedFile) Close() error               { return nil }
