// Package backup writes a whole SQLite server into one archive file while it
// runs, and brings such an archive back: the database as it was at one moment,
// the secret key of the data folder, and a manifest that says of which program,
// schema and time they are, with their checksums.
//
// It promises that an archive is complete or not there, that nothing is brought
// back that does not have its checksum or has a schema this program does not
// know, and that what was in a data folder is moved aside and never removed.
//
// It refuses PostgreSQL, which has tools of its own: Dump and Undump say how
// they are called.
package backup
