package e2e_test

import (
	"database/sql"
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/belfryhq/belfry/internal/config"
	"github.com/belfryhq/belfry/internal/testdb"
)

const wwwroot = "https://school.example"

// engine is one of the two dumps, on a server of its own that can be stopped,
// and where Belfry keeps its own data beside it: each of its stores has a walk.
type engine struct {
	name  string
	rows  int64
	serve func(t *testing.T) (dsn string, stop func(), start func())
	store func(t *testing.T, cfg *config.Config)
}

// mayRead is the right to read all of a database, and nothing else.
func (e *engine) mayRead(dsn string) string {
	if u, err := url.Parse(dsn); err == nil && u.Scheme == "mysql" {
		return "SELECT ON `" + strings.TrimPrefix(u.Path, "/") + "`.*"
	}
	return "SELECT ON ALL TABLES IN SCHEMA public"
}

var engines = []engine{
	{"PostgreSQL", 872, func(t *testing.T) (string, func(), func()) {
		p := testdb.NewPostgres(t)
		return p.Moodle(t), p.Crash, func() { p.Start(t) }
	}, func(*testing.T, *config.Config) {}},
	{"MariaDB", 873, func(t *testing.T) (string, func(), func()) {
		m := testdb.NewMariaDB(t)
		return m.Moodle(t), m.Stop, func() { m.Start(t) }
	}, func(t *testing.T, cfg *config.Config) {
		cfg.Database = config.URL(testdb.Postgres(t))
		cfg.SecretKey = []config.Secret{config.Secret(base64.StdEncoding.EncodeToString(make([]byte, 32)))}
	}},
}

// school is a Moodle database with hands to change it, as Moodle would.
type school struct {
	t   *testing.T
	dsn string
	db  *sql.DB
}

// sql writes $n for PostgreSQL.
func (s *school) sql(query string) string {
	if strings.HasPrefix(s.dsn, "mysql") {
		return query
	}
	var b strings.Builder
	n := 0
	for _, c := range query {
		if c == '?' {
			n++
			b.WriteString("$" + strconv.Itoa(n))
			continue
		}
		b.WriteRune(c)
	}
	return b.String()
}

func (s *school) exec(query string, args ...any) {
	s.t.Helper()
	if _, err := s.db.Exec(s.sql(query), args...); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
}

// ids reads a column of event ids: <log id>-<timecreated>.
func (s *school) ids(condition string, args ...any) []string {
	s.t.Helper()
	rows, err := s.db.Query(s.sql("SELECT id, timecreated FROM mdl_logstore_standard_log WHERE "+condition+" ORDER BY id"), args...)
	if err != nil {
		s.t.Fatal(err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var id, at int64
		if err := rows.Scan(&id, &at); err != nil {
			s.t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%d-%d", id, at))
	}
	if err := rows.Err(); err != nil {
		s.t.Fatal(err)
	}
	return out
}

// id is the one row of a condition.
func (s *school) id(condition string, args ...any) string {
	s.t.Helper()
	ids := s.ids(condition, args...)
	if len(ids) != 1 {
		s.t.Fatalf("%d rows where %s %v, want 1", len(ids), condition, args)
	}
	return ids[0]
}

func (s *school) number(query string, args ...any) int64 {
	s.t.Helper()
	var n int64
	if err := s.db.QueryRow(s.sql(query), args...).Scan(&n); err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return n
}

func (s *school) top() int64 { return s.number("SELECT max(id) FROM mdl_logstore_standard_log") }

// place is a context.
type place struct{ context, level, instance, course int64 }

var (
	phy101  = place{57, 50, 2, 2}
	opt150  = place{65, 50, 10, 10}
	forum11 = place{68, 70, 11, 2}
)

// row is a log row to write; zero fields get likely values.
type row struct {
	id       int64 // 0 = the next
	event    string
	table    string
	object   int64
	at       place // zero = PHY101
	user     int64
	related  int64
	other    string
	created  int64 // 0 = now
	realuser int64
}

// log writes a row as Moodle does and gives its event's id.
func (s *school) log(r row) string {
	s.t.Helper()
	if r.id == 0 {
		r.id = s.top() + 1
	}
	if r.created == 0 {
		r.created = time.Now().Unix()
	}
	if r.other == "" {
		r.other = "null"
	}
	if r.at == (place{}) {
		r.at = phy101
	}
	parts := strings.Split(r.event, `\`)
	last := parts[3]
	i := strings.LastIndexByte(last, '_')
	null := func(n int64) any {
		if n == 0 {
			return nil
		}
		return n
	}
	var table any
	if r.table != "" {
		table = r.table
	}
	crud := map[string]string{"created": "c", "uploaded": "c", "deleted": "d", "viewed": "r"}[last[i+1:]]
	if crud == "" {
		crud = "u"
	}
	s.exec(`INSERT INTO mdl_logstore_standard_log (id, eventname, component, action, target, objecttable, objectid, crud, edulevel, contextid, contextlevel, contextinstanceid, userid, courseid, relateduserid, anonymous, other, timecreated, origin, ip, realuserid)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, 0, ?, ?, 'web', '192.0.2.7', ?)`,
		r.id, r.event, parts[1], last[i+1:], last[:i], table, null(r.object), crud, r.at.context, r.at.level, r.at.instance, r.user, r.at.course, null(r.related), r.other, r.created, null(r.realuser))
	return fmt.Sprintf("%d-%d", r.id, r.created)
}

// viewed is somebody's look at PHY101.
func viewed(user int64) row { return row{event: `\core\event\course_viewed`, user: user} }
