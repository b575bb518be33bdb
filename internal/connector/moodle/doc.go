// Package moodle reads a Moodle site's database (PostgreSQL, MariaDB, MySQL),
// and only reads: it follows the standard log by id and keeps a copy of the
// site's tree, people, roles, groups and cohorts.
//
// # What becomes what
//
// \core\event\course_updated is the type core.course_updated. The event's id is
// "<log id>-<timecreated>", its source "moodle/<name>". Objects are site,
// category/2, course/41, module/12 (the course module's id; its type is the
// module's name, e.g. forum), discussion/5 (a forum's discussion, below its
// module) and profile/8 (a user's own context); an assignment's attribute drafts
// is who has a submission of it that is not handed in (3,000 at most, and
// drafts_left_out counts the rest); people user/8, group/3,
// cohort/1; roles their shortnames, and siteadmin. An event in a block or in a
// context of a plug-in's own level happens on its course, or on the site.
// data holds the 17 fields of Moodle's event in their order (other decoded),
// then origin and link (absolute). record is the row of objecttable/objectid as
// it is now; for a row that is gone, the last copy that was seen, else false.
//
// # Promises
//
// One indexed query a poll; rows that become visible out of id order are
// waited for (the gap window) and none is handed twice; rows that a course
// restore writes again are dropped and counted; a log that was emptied or
// rebuilt is an error, never a replay. Directory changes that an event speaks
// of are read from the tables and handed in the same batch, before it.
// Everything is compared in full at the start and every "compare"; only
// differences are handed. Memory: 4 bytes a user, course, activity,
// discussion, group and role context, plus bounded caches and pages.
//
// # Refusals
//
// It never writes, never holds a transaction open, never hands over who was
// behind "log in as" (realuserid), an IP address, a password, a token or a
// session, and never who did or was affected by an anonymous event.
//
// Test against it with testdb.MoodlePostgres or testdb.MoodleMariaDB and
// connectortest.Recorder, as its own tests do.
package moodle
