package sqlread_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector/sqlread"
)

// server answers the first connection and gives what it heard when that ends.
func server(t *testing.T, serve func(c net.Conn) (heard string, err error)) (address string, heard <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	out := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			out <- fmt.Sprintf("nobody came: %v", err)
			return
		}
		defer c.Close()
		said, err := serve(c)
		if err != nil {
			said = fmt.Sprintf("the talk ended early: %v", err)
		}
		out <- said
	}()
	return l.Addr().String(), out
}

// A server of MySQL may answer any statement with the wish for a file of the
// client's machine. It gets nothing, whatever the address asks for.
func TestFilesOfThisMachineStayHere(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret.key")
	if err := os.WriteFile(secret, []byte("the key"), 0o600); err != nil {
		t.Fatal(err)
	}
	addr, heard := server(t, func(c net.Conn) (string, error) {
		packet := func(seq byte, body []byte) error {
			_, err := c.Write(append([]byte{byte(len(body)), byte(len(body) >> 8), 0, seq}, body...))
			return err
		}
		receive := func() ([]byte, error) {
			head := make([]byte, 4)
			if _, err := io.ReadFull(c, head); err != nil {
				return nil, err
			}
			body := make([]byte, int(head[0])|int(head[1])<<8)
			_, err := io.ReadFull(c, body)
			return body, err
		}
		greeting := bytes.Join([][]byte{
			{10}, []byte("8.0.0\x00"), {1, 0, 0, 0}, []byte("12345678\x00"),
			{0x80 | 0x01, 0xa2, 33, 2, 0, 0x08, 0x00, 21}, make([]byte, 10), []byte("123456789012\x00"), []byte("mysql_native_password\x00"),
		}, nil)
		if err := packet(0, greeting); err != nil {
			return "", err
		}
		if _, err := receive(); err != nil {
			return "", err
		}
		if err := packet(2, []byte{0, 0, 0, 2, 0, 0, 0}); err != nil { // welcome
			return "", err
		}
		if _, err := receive(); err != nil { // the first statement
			return "", err
		}
		if err := packet(1, append([]byte{0xfb}, secret...)); err != nil {
			return "", err
		}
		got, err := receive()
		return "file: " + string(got), err
	})
	d := read(t, sqlread.Options{DSN: "mysql://u@" + addr + "/db?allowAllFiles=true&timeout=5s&readTimeout=5s"})
	if _, err := sqlread.Select(t.Context(), d, "SELECT 1", nil, sqlread.Int64); err == nil {
		t.Error("the server's wish for a file was met")
	}
	if got := <-heard; got != "file: " {
		t.Errorf("the server heard %q, want an empty file", got)
	}
}

// What this machine keeps for its own use of PostgreSQL is not told to the
// host that an address names.
func TestPasswordsOfThisMachineStayHere(t *testing.T) {
	t.Setenv("PGPASSWORD", "hunter2")
	addr, heard := server(t, func(c net.Conn) (string, error) {
		b := pgproto3.NewBackend(c, c)
		if _, err := b.ReceiveStartupMessage(); err != nil {
			return "", err
		}
		b.Send(&pgproto3.AuthenticationCleartextPassword{})
		if err := b.Flush(); err != nil {
			return "", err
		}
		if err := b.SetAuthType(pgproto3.AuthTypeCleartextPassword); err != nil {
			return "", err
		}
		m, err := b.Receive()
		if err != nil {
			return "", err
		}
		return "password: " + m.(*pgproto3.PasswordMessage).Password, nil
	})
	d := read(t, sqlread.Options{DSN: "postgres://u@" + addr + "/db?sslmode=disable"})
	if _, err := sqlread.Select(t.Context(), d, "SELECT 1", nil, sqlread.Int64); err == nil {
		t.Error("the server let us in")
	}
	if got := <-heard; got != "password: " {
		t.Errorf("the server heard %q, want no password", got)
	}
	for _, name := range []string{"passfile", "service", "servicefile"} {
		if _, err := sqlread.Open(sqlread.Options{DSN: "postgres://u@h/db?" + name + "=/etc/passwd"}); belfry.KindOf(err) != belfry.Invalid {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}

// Every connection is made by the dialer that was given.
func TestDial(t *testing.T) {
	refused := errors.New("not from here")
	for _, dsn := range []string{
		"postgres://u@127.0.0.1:5432/db", "postgres:///db?host=/run/postgresql", "mysql://u@127.0.0.1:3306/db", "mysql://u@x/db?socket=/run/mysqld/mysqld.sock",
	} {
		n := 0
		d := read(t, sqlread.Options{DSN: dsn, Dial: func(context.Context, string, string) (net.Conn, error) { n++; return nil, refused }})
		if _, err := sqlread.Select(t.Context(), d, "SELECT 1", nil, sqlread.Int64); !errors.Is(err, refused) || n == 0 {
			t.Errorf("%s: %d calls, %v", dsn, n, err)
		}
	}
}
