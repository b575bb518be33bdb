package sqlread

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
)

// Problem classifies a database error.
type Problem int

// Problems.
const (
	Other Problem = iota
	Unreachable
	LoginRefused
	NoDatabase
	NoTable
	NoColumn
	NoRight
	TooSlow
	WriteRefused
)

// Classify tells what kind of problem an error is.
func Classify(err error) Problem {
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	switch {
	case err == nil:
		return Other
	case errors.As(err, &pg):
		if p, ok := postgresCodes[pg.Code]; ok {
			return p
		}
		if len(pg.Code) == 5 && (pg.Code[:2] == "08" || pg.Code[:3] == "57P") {
			return Unreachable
		}
	case errors.As(err, &my):
		return mysqlCodes[my.Number]
	case errors.Is(err, context.DeadlineExceeded):
		return TooSlow
	case isConnection(err):
		return Unreachable
	}
	return Other
}

func isConnection(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	var connect *pgconn.ConnectError
	return errors.As(err, &op) || errors.As(err, &dns) || errors.As(err, &connect) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, mysql.ErrInvalidConn) || errors.Is(err, syscall.ECONNREFUSED) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) // the server went away in the middle of an answer
}

var postgresCodes = map[string]Problem{
	"28P01": LoginRefused, "28000": LoginRefused, "3D000": NoDatabase, "42P01": NoTable, "3F000": NoTable, "42703": NoColumn,
	"42501": NoRight, "57014": TooSlow, "55P03": TooSlow, "25006": WriteRefused, "53300": Unreachable,
}

var mysqlCodes = map[uint16]Problem{
	1045: LoginRefused, 1698: LoginRefused, 1044: NoRight, 1049: NoDatabase, 1146: NoTable, 1054: NoColumn,
	1142: NoRight, 1143: NoRight, 1227: NoRight, 1969: TooSlow, 3024: TooSlow, 1205: TooSlow, 1792: WriteRefused, 1290: WriteRefused,
	1040: Unreachable, 1203: Unreachable, 1053: Unreachable, 1927: Unreachable, 1129: LoginRefused, 1130: LoginRefused,
}

// Explain puts an error into a sentence that says what is wrong and what to
// do, with the server's own words behind.
func Explain(err error) string {
	says := ": " + detail(err)
	switch Classify(err) {
	case Unreachable:
		return "the database does not answer; check the host and port of the address, that the server runs, and that it lets this machine in" + says
	case LoginRefused:
		return "the database refuses the login; check the user and password of the address, and that the account may come from this machine" + says
	case NoDatabase:
		return "there is no such database on the server; check the name at the end of the address" + says
	case NoTable:
		return "a table is missing; check the prefix" + says
	case NoColumn:
		return "a column is missing; this version of the platform is older or newer than what is understood" + says
	case NoRight:
		return "the account lacks a right; grant it SELECT" + says
	case TooSlow:
		return "the database took too long to answer and the statement was given up; the platform may be busy" + says
	case WriteRefused:
		return "the database refused a write on a read-only session" + says
	case Other:
	}
	return "the database answered with an error" + says
}

// detail is the server's own words; a failed connection's error repeats the
// address (without its password) and every attempt, so only its root is shown.
func detail(err error) string {
	var pg *pgconn.PgError
	var my *mysql.MySQLError
	var op *net.OpError
	switch {
	case errors.As(err, &pg):
		return pg.Message
	case errors.As(err, &my):
		return my.Message
	case errors.As(err, &op):
		return op.Error()
	}
	return err.Error()
}
