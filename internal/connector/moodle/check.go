package moodle

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/belfry"
	"github.com/belfryhq/belfry/internal/connector"
	"github.com/belfryhq/belfry/internal/connector/sqlread"
)

// needed are the tables without which nothing works; the account needs SELECT
// on each.
var needed = []string{logTable, "context", "course", "course_categories", "course_modules", "modules", "user", "role", "role_assignments", "enrol", "user_enrolments",
	"groups", "groups_members", "cohort", "cohort_members", "config"}

// preflight finds what makes reading pointless, in words that say what to do.
func (s *source) preflight(ctx context.Context) error {
	for _, table := range needed {
		_, err := sqlread.Select(ctx, s.db, "SELECT 1 FROM {"+table+"} WHERE id = 0", nil, sqlread.Int64)
		if err == nil {
			continue
		}
		name := s.conf.prefix + table
		switch sqlread.Classify(err) {
		case sqlread.NoTable:
			return s.missing(ctx, name)
		case sqlread.NoRight:
			// MariaDB says so of tables that are not there, too.
			if logs, err := s.db.Tables(ctx, logTable); err == nil && len(logs) > 0 && !slices.Contains(logs, s.conf.prefix+logTable) {
				return s.missing(ctx, name)
			}
			return belfry.Errorf(belfry.Unavailable, "the database account may not read the table %s; grant it: %s", name, s.grantStatement())
		case sqlread.Other, sqlread.Unreachable, sqlread.LoginRefused, sqlread.NoDatabase, sqlread.NoColumn, sqlread.TooSlow, sqlread.WriteRefused:
		}
		return err
	}
	columns, err := s.db.Columns(ctx, logTable)
	s.company = slices.Contains(columns, "companyid")
	return err
}

func (s *source) grantStatement() string {
	names := make([]string, 0, len(needed))
	for _, t := range needed {
		names = append(names, s.conf.prefix+t)
	}
	if s.db.Dialect == sqlread.MySQL {
		return "GRANT SELECT ON <database>.<table> TO <account>, for each of " + strings.Join(names, ", ") + ", the activities' own tables (forum, forum_discussions, assign, ...) and those whose rows events should carry"
	}
	return "GRANT SELECT ON " + strings.Join(names, ", ") + " TO <account>; and the activities' own tables (forum, forum_discussions, assign, ...) and those whose rows events should carry"
}

// missing explains a table that is not there: with another prefix it may be.
func (s *source) missing(ctx context.Context, name string) error {
	logs, err := s.db.Tables(ctx, logTable)
	if err != nil {
		return err
	}
	var prefixes []string
	for _, t := range logs {
		if p := strings.TrimSuffix(t, logTable); p != s.conf.prefix {
			prefixes = append(prefixes, strconv.Quote(p))
		}
	}
	switch {
	case slices.Contains(logs, s.conf.prefix+logTable):
		return belfry.Errorf(belfry.Unavailable, "the table %s is missing, or the account may not know of it, though the log is there: is this all of Moodle's database? Else grant: %s", name, s.grantStatement())
	case len(prefixes) > 0:
		return belfry.Errorf(belfry.Unavailable, "there is no table %s: the prefix %q is wrong. This database has Moodle's log under the prefix %s; set prefix to that", name, s.conf.prefix, strings.Join(prefixes, " and "))
	}
	return belfry.Errorf(belfry.Unavailable, "there is no table %s, and no table ending in %s that this account may see: the address names another database, the account has no right to any table, or this Moodle keeps no standard log. Check dsn and the rights", name, logTable)
}

// optional are tables that add something: what is lost without them.
var optional = []struct{ table, lost string }{
	{"forum_discussions", "forum discussions are not in the tree"},
	{"config_plugins", "it cannot be checked whether Moodle writes its log"},
}

// examine is the examination of the settings against the real database.
func (s *source) examine(ctx context.Context) []connector.Finding {
	var out []connector.Finding
	add := func(severity, do, format string, args ...any) {
		out = append(out, connector.Finding{Severity: severity, What: fmt.Sprintf(format, args...), Do: do})
	}
	if err := s.preflight(ctx); err != nil {
		what, do, _ := strings.Cut(said(err), "; ")
		add(connector.SeverityError, firstOf(do, "see the message"), "%s", what)
		return out
	}
	if err := s.site.load(ctx); err != nil {
		add(connector.SeverityError, "see the message", "%s", said(err))
		return out
	}
	for _, o := range optional {
		if _, err := sqlread.Select(ctx, s.db, "SELECT 1 FROM {"+o.table+"} WHERE id = 0", nil, sqlread.Int64); err != nil {
			add(connector.SeverityWarning, "grant the account SELECT on it", "the table %s%s cannot be read: %s", s.conf.prefix, o.table, o.lost)
		}
	}
	stores, err := sqlread.Select(ctx, s.db, "SELECT value FROM {config_plugins} WHERE plugin = 'tool_log' AND name = 'enabled_stores'", nil, sqlread.Text)
	if err == nil && len(stores) > 0 && !slices.Contains(strings.Split(stores[0], ","), "logstore_standard") {
		add(connector.SeverityError, "Site administration > Plugins > Logging > Manage log stores: enable the standard log", "Moodle does not write its standard log: the enabled stores are %q", stores[0])
	}
	top, empty, err := s.top(ctx)
	switch {
	case err != nil:
		add(connector.SeverityError, "see the message", "%s", said(err))
	case empty:
		add(connector.SeverityWarning, "open a page of the site and look again", "the log has no rows yet")
	default:
		add(connector.SeverityOK, "", "Moodle %s on %s can be read; the log is at id %d", firstOf(s.site.config["release"], "(release unknown)"), s.db.Dialect, top)
	}
	slices.SortStableFunc(out, func(a, b connector.Finding) int { return rank(a.Severity) - rank(b.Severity) })
	return out
}

func rank(severity string) int {
	return slices.Index([]string{connector.SeverityError, connector.SeverityWarning, connector.SeverityOK}, severity)
}

func firstOf(s, or string) string {
	if s == "" {
		return or
	}
	return s
}

func itoa(n int) string { return strconv.Itoa(n) }
