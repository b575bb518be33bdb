//go:build linux

package faults_test

import (
	bigendian "encoding/binary"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/belfryhq/belfry/internal/testdb"
)

// What cannot work is said in a sentence before anything is done: what is
// wrong, and what to do.
func TestHopelessStarts(t *testing.T) {
	t.Parallel()
	busy := newHome(t).start()
	taken := strings.TrimPrefix(busy.url, "http://")
	postgres := func(change func(u *url.URL)) []string {
		u, err := url.Parse(testdb.Postgres(t))
		if err != nil {
			t.Fatal(err)
		}
		change(u)
		return onPostgres(u.String())
	}
	for name, c := range map[string]struct {
		settings []string
		words    []string
	}{
		"address taken":        {[]string{"BELFRY_LISTEN=" + taken}, []string{"cannot listen on " + taken, "choose another address"}},
		"folder is a file":     {[]string{"BELFRY_DATA_DIR=/dev/null"}, []string{"data folder"}},
		"folder not to use":    {[]string{"BELFRY_DATA_DIR=/proc/nobody"}, []string{"data folder"}},
		"no such setting":      {[]string{"BELFRY_DATABSE=x"}, []string{"BELFRY_DATABSE", "did you mean"}},
		"no PostgreSQL":        {onPostgres("postgres://u@127.0.0.1:1/x?sslmode=disable&connect_timeout=3"), []string{"cannot be reached", "check host and port"}},
		"no such database":     {postgres(func(u *url.URL) { u.Path = "/nowhere" }), []string{`"nowhere" does not exist`, "CREATE DATABASE"}},
		"no such user":         {postgres(func(u *url.URL) { u.User = url.User("nobody") }), []string{`"nobody" does not exist`, "check user and password"}},
		"another's database":   {onPostgres(testdb.MoodlePostgres(t)), []string{"holds tables that are not Belfry's, such as mdl_assign: ", "CREATE DATABASE"}},
		"no TLS there":         {postgres(func(u *url.URL) { u.RawQuery = "sslmode=require" }), []string{"TLS", "sslmode=disable in the database URL"}},
		"no such option":       {postgres(func(u *url.URL) { u.RawQuery = "sslmod=require" }), []string{`"sslmod"`, "is an option of the database URL", "leave it out"}},
		"PostgreSQL too old":   {onPostgres(oldPostgres(t)), []string{"PostgreSQL 12.22", "is too old", "version 13 or newer", "upgrade the server"}},
		"no PostgreSQL at all": {onPostgres("postgres://u@" + taken + "/x?sslmode=disable&connect_timeout=3"), []string{"cannot be reached", "check host and port"}},
		"no secret key":        {[]string{"BELFRY_DATABASE=postgres://u@127.0.0.1:1/x"}, []string{"BELFRY_SECRET_KEY", "make one with"}},
		"another database":     {[]string{"BELFRY_DATABASE=mysql://u@127.0.0.1/x"}, []string{"must begin with sqlite: or postgres://"}},
		"URL not understood":   {[]string{"BELFRY_DATABASE=postgres://u:p@[::1/x"}, []string{"is no URL: write it like postgres://"}},
		"unknown role":         {[]string{"BELFRY_NODES_ROLES=api,cook"}, []string{`"cook" must be one of`, "plan"}},
		"roles on SQLite":      {[]string{"BELFRY_NODES_ROLES=api,plan"}, []string{"leaves out deliver", "leave roles out, or use PostgreSQL"}},
		"lease of nothing":     {[]string{"BELFRY_NODES_LEASE=10ms"}, []string{"must be from 1s to 10m"}},
	} {
		t.Run(name, func(t *testing.T) { newHome(t, c.settings...).refused(c.words...) })
	}
	p := newHome(t).spawn("--rolls", "api")
	if code := p.exit(); code != 2 || !strings.Contains(p.logged(), "--rolls") {
		t.Errorf("a flag that is none: exit code %d, want 2\n%s", code, p.logged())
	}
}

// A database that was used is not started without its key: every secret in it
// would be lost in silence. One that was only prepared has nothing to lose.
func TestDatabaseWithoutItsKey(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	if out, err := exec.Command(binary, "migrate", "--data-dir", h.dir).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	p := h.start()
	p.call(http.MethodPut, "/v1/users/ada", map[string]any{"name": "Ada"}, nil)
	p.signal(syscall.SIGTERM)
	if code := p.exit(); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	if info, err := os.Stat(filepath.Join(h.dir, "belfry.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the database may be read by others: %v %v", info.Mode(), err)
	}
	key := filepath.Join(h.dir, "secret.key")
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	h.refused(key+" is missing", "put it back from your backup", "BELFRY_SECRET_KEY", "If it is lost")
	if _, err := os.Stat(key); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a start that was refused made a key")
	}
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	h.start().call(http.MethodGet, "/v1/users/ada", nil, nil)
}

// A server whose secret key is not that of the others says so as it starts.
func TestAnotherSecretKey(t *testing.T) {
	t.Parallel()
	const says, other = "cannot be opened with this secret key", "b3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb3RoZXIgb28="
	h := newHome(t, "BELFRY_SECRET_KEY="+secretKey)
	p := h.start()
	p.call(http.MethodPost, "/v1/endpoints", map[string]any{"url": "https://records.example/hook"}, nil)
	for _, c := range []struct {
		keys  string
		wrong bool
	}{{secretKey, false}, {other, true}, {other + "," + secretKey, false}} {
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 {
			t.Fatalf("exit code %d", code)
		}
		h.env = append(h.env, "BELFRY_SECRET_KEY="+c.keys) // the last one counts
		p = h.start()
		if got := strings.Contains(p.logged(), says); got != c.wrong {
			t.Errorf("with key %q it was told: %t, want %t\n%s", c.keys, got, c.wrong, p.logged())
		}
		if n := strings.Count(p.logged(), says); n > 1 {
			t.Errorf("it was told %d times", n)
		}
	}
}

// oldPostgres is a server that says to be PostgreSQL 12, and else nothing.
func oldPostgres(t *testing.T) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				if err := speakOld(pgproto3.NewBackend(c, c)); err != nil && !errors.Is(err, net.ErrClosed) {
					return // the program has hung up
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return "postgres://u@" + l.Addr().String() + "/x?sslmode=disable"
}

// speakOld answers every query with the row that the program asks for at first:
// version number, version, encoding, whether it is a replica.
func speakOld(b *pgproto3.Backend) error {
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return err
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	const integer, text, boolean = 23, 25, 16
	columns := &pgproto3.RowDescription{}
	for i, oid := range []uint32{integer, text, text, boolean} {
		columns.Fields = append(columns.Fields, pgproto3.FieldDescription{Name: []byte{byte('a' + i)}, DataTypeOID: oid, DataTypeSize: -1, TypeModifier: -1})
	}
	row := &pgproto3.DataRow{}
	for {
		if err := b.Flush(); err != nil {
			return err
		}
		m, err := b.Receive()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *pgproto3.Query:
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 0")})
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		case *pgproto3.Parse:
			b.Send(&pgproto3.ParseComplete{})
		case *pgproto3.Describe:
			if m.ObjectType == 'S' {
				b.Send(&pgproto3.ParameterDescription{})
			}
			b.Send(columns)
		case *pgproto3.Bind:
			row.Values = [][]byte{[]byte("120022"), []byte("12.22"), []byte("UTF8"), []byte("f")}
			for i, format := range m.ResultFormatCodes {
				switch {
				case format == 1 && i == 0:
					row.Values[0] = bigendian.BigEndian.AppendUint32(nil, 120022)
				case format == 1 && i == 3:
					row.Values[3] = []byte{0}
				}
			}
			b.Send(&pgproto3.BindComplete{})
		case *pgproto3.Execute:
			b.Send(row)
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		case *pgproto3.Sync:
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		case *pgproto3.Terminate:
			return nil
		}
	}
}
