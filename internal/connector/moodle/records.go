package moodle

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/belfryhq/belfry/internal/connector/sqlread"
)

// userColumns are all that is ever carried of a person's row.
var userColumns = []string{"id", "auth", "confirmed", "deleted", "suspended", "username", "idnumber", "firstname", "lastname", "email", "emailstop", "institution", "department", "city", "country", "lang", "timezone", "timecreated", "timemodified"}

// secretTables hold keys, sessions, settings or private talk; none of their
// rows is carried.
var secretTables = []string{"config", "config_plugins", "config_log", "external_tokens", "external_services", "sessions", "user_private_key", "user_password_history", "user_password_resets",
	"user_devices", "message_airnotifier_devices", "user_preferences", "messages", "message", "message_read", "message_user_actions", "oauth2_issuer", "oauth2_system_account", "oauth2_access_token", "oauth2_refresh_token",
	"registration_hubs", "repository_instance_config", "portfolio_instance_config", "task_adhoc", "files", "feedback_completed", "feedback_value", "logstore_standard_log", "tool_mfa", "tool_mfa_secrets"}

// secretPrefixes are those of tables that belong to identity and remote access.
var secretPrefixes = []string{"mnet_", "oauth2_", "auth_", "enrol_lti_", "lti_", "factor_", "tool_mfa_"}

// secretParts of a column's name keep it from being carried, in any table:
// enrolment keys, quiz passwords, tokens.
var secretParts = []string{"password", "passwd", "secret", "token", "privatekey", "private_key", "apikey", "api_key", "sessionid", "session_id", "credential", "salt"}

// recordColumns chooses the columns of a table's record; none = the table has
// no record to carry.
func recordColumns(table string, columns []string) []string {
	if !moduleName(table) || slices.Contains(secretTables, table) || slices.ContainsFunc(secretPrefixes, func(p string) bool { return strings.HasPrefix(table, p) }) {
		return nil
	}
	if !slices.Contains(columns, "id") {
		return nil
	}
	out := make([]string, 0, len(columns))
	for _, c := range columns {
		switch {
		case table == "user":
			if slices.Contains(userColumns, c) {
				out = append(out, c)
			}
		case !slices.ContainsFunc(secretParts, func(p string) bool { return strings.Contains(strings.ToLower(c), p) }):
			out = append(out, c)
		}
	}
	return out
}

func recordKey(table string, id int64) string { return table + "/" + strconv.FormatInt(id, 10) }

// columnsOf gives the columns to carry of a table, none when it is not there,
// may not be read, or is not to be carried.
func (s *source) columnsOf(ctx context.Context, table string) ([]string, error) {
	if c, ok := s.columns[table]; ok {
		return c, nil
	}
	if recordColumns(table, []string{"id"}) == nil {
		return nil, nil
	}
	all, err := s.db.Columns(ctx, table)
	if err != nil {
		return nil, err
	}
	s.columns[table] = recordColumns(table, all)
	return s.columns[table], nil
}

// maxCopy bounds one kept copy of a row.
const maxCopy = 16 << 10

// readRecords reads the rows of a table that exist, as JSON, and keeps copies.
func (s *source) readRecords(ctx context.Context, table string, ids []int64) (map[int64][]byte, error) {
	columns, err := s.columnsOf(ctx, table)
	if err != nil || len(columns) == 0 {
		return nil, err
	}
	out := make(map[int64][]byte, len(ids))
	for chunk := range slices.Chunk(ids, 200) {
		rows, err := s.db.Records(ctx, table, columns, chunk)
		switch sqlread.Classify(err) {
		case sqlread.NoRight, sqlread.NoTable, sqlread.NoColumn:
			s.columns[table] = nil // until the next Run
			return nil, nil
		case sqlread.Other, sqlread.Unreachable, sqlread.LoginRefused, sqlread.NoDatabase, sqlread.TooSlow, sqlread.WriteRefused:
		}
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			out[r.ID] = r.JSON
			if len(r.JSON) <= maxCopy {
				s.records.Add(recordKey(table, r.ID), r.JSON)
			}
		}
	}
	return out, nil
}

// recordsOf reads the records of the rows of a page: by table and id. A table
// without records to carry is not in it.
func (s *source) recordsOf(ctx context.Context, rows []*logRow) (map[string]map[int64][]byte, error) {
	ids := map[string][]int64{}
	for _, r := range rows {
		if r.Anonymous == 0 && r.ObjectTable.Valid && r.ObjectID.Valid && r.ObjectID.Int64 > 0 {
			t := r.ObjectTable.String
			if !slices.Contains(ids[t], r.ObjectID.Int64) {
				ids[t] = append(ids[t], r.ObjectID.Int64)
			}
		}
	}
	out := map[string]map[int64][]byte{}
	for table, of := range ids {
		// What was kept before the row may have been deleted since.
		records, err := s.readRecords(ctx, table, of)
		if err != nil {
			return nil, err
		}
		if records != nil {
			out[table] = records
		}
	}
	return out, nil
}

// recordOf is the record of a row's event: the row as it is now; for one that
// is gone the last copy that was seen, else false; nil when there is none to
// carry.
func (s *source) recordOf(r *logRow, read map[string]map[int64][]byte) []byte {
	rows, ok := read[r.ObjectTable.String]
	if !ok || !r.ObjectTable.Valid || !r.ObjectID.Valid || r.Anonymous != 0 {
		return nil
	}
	if raw, ok := rows[r.ObjectID.Int64]; ok {
		return raw
	}
	if raw, ok := s.records.Get(recordKey(r.ObjectTable.String, r.ObjectID.Int64)); ok && r.CRUD == "d" {
		return raw
	}
	return []byte("false")
}
