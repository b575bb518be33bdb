//go:build linux

package faults_test

import (
	"database/sql"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
)

// account is what became of everything that was sent under a fault. Owed is
// one for each event and each it was for; nothing is lost when it is delivered
// + inbox + failed + suppressed.
type account struct {
	fault                          string
	sent, accepted, stored         int // events
	owed, delivered, inbox, failed int
	suppressed                     int
	repeats                        int // webhooks that came again after they were answered with success
	doubles                        int // inbox rows that should not be there
	lost                           int
}

func (a *account) String() string {
	return fmt.Sprintf("account: %d events sent, %d answered 202, %d stored; owed %d = %d delivered + %d inbox + %d failed + %d suppressed; %d webhooks repeated, %d inbox rows doubled, %d lost",
		a.sent, a.accepted, a.stored, a.owed, a.delivered, a.inbox, a.failed, a.suppressed, a.repeats, a.doubles, a.lost)
}

// accounts of all faults of this run, for the table at its end.
var accounts struct {
	sync.Mutex
	list []*account
}

func keep(a *account) {
	accounts.Lock()
	defer accounts.Unlock()
	accounts.list = append(accounts.list, a)
}

func printAccounts(w io.Writer) {
	accounts.Lock()
	defer accounts.Unlock()
	if len(accounts.list) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "fault\taccepted\towed\tdelivered\tinbox\tfailed\tsuppressed\trepeated\tdoubled\tlost\t")
	for _, a := range accounts.list {
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", strings.TrimPrefix(a.fault, "Test"), a.stored, a.owed, a.delivered, a.inbox, a.failed, a.suppressed, a.repeats, a.doubles, a.lost)
	}
	_ = t.Flush()
}

// faultList is what is wrong: all of it counted, the first of it said.
type faultList struct {
	n    int
	says []string
}

func (f *faultList) add(format string, args ...any) {
	if f.n++; len(f.says) < 20 {
		f.says = append(f.says, fmt.Sprintf(format, args...))
	}
}

func (f *faultList) tell(t *testing.T) {
	t.Helper()
	if f.n > 0 {
		t.Errorf("%d things are wrong, the first:\n%s", f.n, strings.Join(f.says, "\n"))
	}
}

// suppressions counts for how many events it is recorded that somebody was not
// told.
func (p *process) suppressions(who string) (n int) {
	p.t.Helper()
	db, err := sql.Open(p.home.driver, p.home.dsn)
	if err != nil {
		p.t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow("SELECT count(*) FROM suppressions WHERE principal LIKE $1", "%"+who).Scan(&n); err != nil {
		p.t.Fatal(err)
	}
	return n
}
