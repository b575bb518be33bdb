package moodle

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfryhq/belfry/internal/belfry"
)

// Types of objects besides the activity modules' names.
const (
	TypeSite       = "site"
	TypeCategory   = "category"
	TypeCourse     = "course"
	TypeDiscussion = "discussion"
	TypeProfile    = "profile"
)

// SiteObject is the id of the site's object, a child of the root.
const SiteObject = "site"

// RoleSiteAdmin is the role, on SiteObject, of Moodle's site administrators,
// who have no role assignment there.
const RoleSiteAdmin = "siteadmin"

// Levels of a context.
const (
	levelSystem   = 10
	levelUser     = 30
	levelCategory = 40
	levelCourse   = 50
	levelModule   = 70
)

// logRow is a row of the log, without ip and realuserid, which are not read.
type logRow struct {
	ID          int64
	EventName   string
	Component   string
	Action      string
	Target      string
	ObjectTable sql.NullString
	ObjectID    sql.NullInt64
	CRUD        string
	EduLevel    int64

	ContextID    int64
	ContextLevel int64
	InstanceID   int64
	UserID       int64
	CourseID     sql.NullInt64
	RelatedID    sql.NullInt64
	Anonymous    int64
	Other        sql.NullString
	Long         bool // other is too long and was not fetched
	Created      int64
	Origin       sql.NullString
	CompanyID    sql.NullInt64 // only on IOMAD sites
}

// logColumns are read by name: sites have more columns, and in other orders.
// A very long other is not even fetched, so that a page of rows stays small.
const logColumns = "id, eventname, component, action, target, objecttable, objectid, crud, edulevel, contextid, contextlevel, contextinstanceid, userid, courseid, relateduserid, anonymous, " +
	"CASE WHEN octet_length(other) <= 131072 THEN other END, CASE WHEN octet_length(other) > 131072 THEN 1 ELSE 0 END, timecreated, origin"

func scanLog(company bool) func(*sql.Rows) (*logRow, error) {
	return func(rows *sql.Rows) (*logRow, error) {
		var r logRow
		into := []any{&r.ID, &r.EventName, &r.Component, &r.Action, &r.Target, &r.ObjectTable, &r.ObjectID, &r.CRUD, &r.EduLevel, &r.ContextID, &r.ContextLevel,
			&r.InstanceID, &r.UserID, &r.CourseID, &r.RelatedID, &r.Anonymous, &r.Other, &r.Long, &r.Created, &r.Origin}
		if company {
			into = append(into, &r.CompanyID)
		}
		return &r, rows.Scan(into...)
	}
}

// key is the id of the row's event. A log that was rebuilt uses its ids again,
// so the time is part of it.
func (r *logRow) key() string {
	return strconv.FormatInt(r.ID, 10) + "-" + strconv.FormatInt(r.Created, 10)
}

// moodleData is what Event.Data holds: the 17 fields in Moodle's order, then
// ours.
type moodleData struct {
	EventName         string          `json:"eventname"`
	Component         string          `json:"component"`
	Action            string          `json:"action"`
	Target            string          `json:"target"`
	ObjectTable       *string         `json:"objecttable"`
	ObjectID          *int64          `json:"objectid"`
	CRUD              string          `json:"crud"`
	EduLevel          int64           `json:"edulevel"`
	ContextID         int64           `json:"contextid"`
	ContextLevel      int64           `json:"contextlevel"`
	ContextInstanceID int64           `json:"contextinstanceid"`
	UserID            *int64          `json:"userid"`
	CourseID          *int64          `json:"courseid"`
	RelatedUserID     *int64          `json:"relateduserid"`
	Anonymous         int64           `json:"anonymous"`
	Other             json.RawMessage `json:"other"`
	TimeCreated       int64           `json:"timecreated"`

	Origin    string   `json:"origin,omitempty"`
	CompanyID *int64   `json:"companyid,omitempty"`
	Link      string   `json:"link,omitempty"`
	Omitted   []string `json:"omitted,omitempty"` // parts that were too large to carry
}

// Sizes beyond which a part of an event is left out, so that one post with a
// picture in its text does not fill the store.
const (
	maxOtherKept  = 96 << 10
	maxRecordKept = 96 << 10
)

// place is what the builder must know of where an event happened.
type place struct {
	object string // id of the nearest object that is known
	module string // name of the activity module of the context, or empty
}

// buildEvent makes the event of a row. other is the decoded column, record the
// row's record as JSON (nil = none is carried).
func buildEvent(r *logRow, source, typ string, other, record json.RawMessage, at place, l links) (belfry.Event, error) {
	e := belfry.Event{
		ID: r.key(), Source: source, Type: typ, Time: time.Unix(r.Created, 0).UTC(), DataContentType: "application/json",
		Object: at.object,
	}
	d := moodleData{
		EventName: r.EventName, Component: r.Component, Action: r.Action, Target: r.Target, ObjectTable: stringOrNil(r.ObjectTable), ObjectID: intOrNil(r.ObjectID),
		CRUD: r.CRUD, EduLevel: r.EduLevel, ContextID: r.ContextID, ContextLevel: r.ContextLevel, ContextInstanceID: r.InstanceID,
		UserID: &r.UserID, CourseID: intOrNil(r.CourseID), RelatedUserID: intOrNil(r.RelatedID), Anonymous: r.Anonymous, TimeCreated: r.Created,
		Origin: r.Origin.String, CompanyID: intOrNil(r.CompanyID),
	}
	fields := fieldsOf(other)
	d.Link = l.event(r, typ, fields, at.module)
	if r.Anonymous != 0 {
		// Everything that could name the person goes: the row it made and what
		// the module wrote beside it included.
		e.Flags = []string{belfry.FlagAnonymous}
		d.UserID, d.RelatedUserID, d.ObjectID, d.Origin, record = nil, nil, nil, "", nil
		other = json.RawMessage("null")
		if r.ContextLevel == levelUser {
			e.Object, d.ContextID, d.ContextInstanceID, d.Link = SiteObject, 0, 0, ""
		}
	} else {
		if r.UserID > 0 {
			e.Actor = userID(r.UserID)
		}
		if r.RelatedID.Valid && r.RelatedID.Int64 > 0 {
			e.Related = []string{userID(r.RelatedID.Int64)}
		}
		e.Subject = subjectOf(record, fields)
	}
	other = withoutSecrets(other, fields)
	if len(other) > maxOtherKept || r.Long {
		other, d.Omitted = json.RawMessage("null"), append(d.Omitted, "other")
	}
	if len(record) > maxRecordKept {
		record, d.Omitted = nil, append(d.Omitted, "record")
	}
	d.Other, e.Record = other, record
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(d); err != nil {
		return belfry.Event{}, err
	}
	e.Data = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	return e, nil
}

// secretFields of other are never handed over.
var secretFields = []string{"sessionid", "sid", "token", "password", "secret", "privatetoken"}

// withoutSecrets leaves other as it is, byte for byte, unless it has a secret.
func withoutSecrets(other json.RawMessage, fields otherFields) json.RawMessage {
	found := false
	for name := range fields {
		found = found || slices.Contains(secretFields, strings.ToLower(name))
	}
	if !found {
		return other
	}
	kept := map[string]json.RawMessage{}
	for name, v := range fields {
		if !slices.Contains(secretFields, strings.ToLower(name)) {
			kept[name] = v
		}
	}
	out, err := json.Marshal(kept)
	if err != nil {
		return json.RawMessage("null")
	}
	return out
}

// subjectOf is the name of the thing, as its row or Moodle's event says it.
func subjectOf(record json.RawMessage, other otherFields) string {
	row := fieldsOf(record)
	for _, fields := range []otherFields{row, other} {
		for _, name := range []string{"fullname", "name", "subject", "itemname", "title"} {
			if s := strings.TrimSpace(fields.text(name)); s != "" {
				return s
			}
		}
	}
	return ""
}

func stringOrNil(v sql.NullString) *string {
	if !v.Valid {
		return nil
	}
	return &v.String
}

func intOrNil(v sql.NullInt64) *int64 {
	if !v.Valid {
		return nil
	}
	return &v.Int64
}

func userID(id int64) string       { return "user/" + strconv.FormatInt(id, 10) }
func profileID(id int64) string    { return "profile/" + strconv.FormatInt(id, 10) }
func categoryID(id int64) string   { return "category/" + strconv.FormatInt(id, 10) }
func courseID(id int64) string     { return "course/" + strconv.FormatInt(id, 10) }
func moduleID(id int64) string     { return "module/" + strconv.FormatInt(id, 10) }
func discussionID(id int64) string { return "discussion/" + strconv.FormatInt(id, 10) }
func groupID(id int64) string      { return "group/" + strconv.FormatInt(id, 10) }
func cohortID(id int64) string     { return "cohort/" + strconv.FormatInt(id, 10) }
