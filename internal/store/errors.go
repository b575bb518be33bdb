package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"

	"github.com/belfryhq/belfry/internal/belfry"
)

// ErrCursorMoved says that a page of a plan was not applied because the plan's
// cursor is not where the page begins: it was applied before, by this process
// or another, or the plan is complete.
var ErrCursorMoved = errors.New("the plan has moved on")

var errClosing = belfry.Errorf(belfry.Unavailable, "the server is shutting down")

// SQLite's primary result codes that speak of the machine, not of a row.
const (
	sqliteBusy     = 5
	sqliteLocked   = 6
	sqliteNoMem    = 7
	sqliteReadonly = 8
	sqliteIOErr    = 10
	sqliteCorrupt  = 11
	sqliteFull     = 13
	sqliteCantOpen = 14
	sqliteNotADB   = 26
)

// fault gives a database error its kind. Errors that already have one and
// those of a caller's context pass unchanged; what remains unknown is a fault
// of the rows at hand (Internal).
func fault(err error) error {
	var known *belfry.Error
	switch {
	case err == nil, errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, ErrCursorMoved), errors.Is(err, errCareful), errors.Is(err, ErrFenced):
		return err
	}
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case sqliteFull:
			return belfry.Errorf(belfry.Unavailable, "the disk that holds the database is full: free some space, nothing that was accepted is lost (%w)", err)
		case sqliteIOErr, sqliteReadonly, sqliteCantOpen:
			return belfry.Errorf(belfry.Unavailable, "the database file cannot be written or read: check the disk and the folder's rights (%w)", err)
		case sqliteCorrupt, sqliteNotADB:
			return belfry.Errorf(belfry.Unavailable, "the database file is damaged: restore a backup (%w)", err)
		case sqliteBusy, sqliteLocked, sqliteNoMem:
			return belfry.Errorf(belfry.Unavailable, "the database file is busy (%w)", err)
		}
		return err
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code[:2] {
		case "53": // insufficient resources: disk full, too many connections
			return belfry.Errorf(belfry.Unavailable, "PostgreSQL is out of a resource: %s (%w)", pg.Message, err)
		case "57", "58", "08": // shutdown or crash, system error, connection
			return belfry.Errorf(belfry.Unavailable, "PostgreSQL is not available: %s (%w)", pg.Message, &away{err})
		case "28", "3D": // who we are is not (or no longer) welcome
			return belfry.Errorf(belfry.Unavailable, "PostgreSQL refuses the connection: %s (%w)", pg.Message, &away{err})
		}
		if pg.Code == fencedCode {
			return ErrFenced
		}
		if pg.Code == "22021" { // of what is asked for: clean refuses what is to be kept
			return &belfry.Error{Kind: belfry.Invalid, Msg: "a text contains a NUL character or is not valid UTF-8: nothing is kept under such a name", Cause: err}
		}
		if pg.Code == "25006" {
			return belfry.Errorf(belfry.Unavailable, "PostgreSQL is read-only here: connect to the primary (%w)", err)
		}
		return err
	}
	var netErr net.Error
	var connect *pgconn.ConnectError
	switch {
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, net.ErrClosed), errors.As(err, &netErr), errors.As(err, &connect),
		strings.Contains(err.Error(), "conn closed"): // pgx has no exported error for its closed connection
		return belfry.Errorf(belfry.Unavailable, "the database cannot be reached (%w)", &away{err})
	}
	return err
}

// isDuplicate reports whether PostgreSQL refused a row because its key is there.
func isDuplicate(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505"
}

// away marks the cause of an error as that the database does not answer.
type away struct{ error }

func (a *away) Unwrap() error { return a.error }

// Away reports whether an error says that the database does not answer, and not
// something of what was asked of it.
func Away(err error) bool {
	var a *away
	return errors.As(err, &a)
}

// wasCut reports whether a connection there was has ended: not whether none can be
// made, nor whether an answer took too long.
func wasCut(err error) bool {
	var connect *pgconn.ConnectError
	return Away(fault(err)) && !errors.As(err, &connect) && !errors.Is(err, context.DeadlineExceeded)
}

// broken reports whether a connection that met err should not be used again
// although it could roll back: the file behind it may be another one by now, or
// the server that answers.
func broken(err error) bool {
	var lite *sqlite.Error
	if errors.As(err, &lite) {
		switch lite.Code() & 0xff {
		case sqliteFull, sqliteBusy, sqliteLocked:
			return false
		}
	}
	return unavailable(fault(err))
}

// transient reports whether PostgreSQL ended the transaction for the sake of
// another one, so that it should be tried again as it is.
func transient(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01")
}

func unavailable(err error) bool {
	var known *belfry.Error
	return errors.As(err, &known) && known.Kind == belfry.Unavailable
}
