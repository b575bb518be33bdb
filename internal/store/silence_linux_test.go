package store

import (
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"golang.org/x/sys/unix"

	"github.com/belfryhq/belfry/internal/testdb"
)

// The system is told of each connection how long the server's may be silent.
func TestSilenceIsBounded(t *testing.T) {
	db, err := Open(t.Context(), Options{URL: testdb.Postgres(t), Log: slog.New(slog.DiscardHandler), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	conn, err := db.read.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.Raw(func(c any) error {
		raw, err := c.(*stdlib.Conn).Conn().PgConn().Conn().(*net.TCPConn).SyscallConn()
		if err != nil {
			return err
		}
		return raw.Control(func(fd uintptr) {
			for name, opt := range map[string]struct{ option, want int }{
				"unanswered, ms":        {unix.TCP_USER_TIMEOUT, 30_000},
				"idle before asking, s": {unix.TCP_KEEPIDLE, 15},
				"between questions, s":  {unix.TCP_KEEPINTVL, 5},
				"questions":             {unix.TCP_KEEPCNT, 3},
			} {
				if got, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, opt.option); err != nil || got != opt.want {
					t.Errorf("%s: %d, %v; want %d", name, got, err, opt.want)
				}
			}
		})
	}); err != nil {
		t.Fatal(err)
	}
}
