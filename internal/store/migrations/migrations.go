// Package migrations embeds the SQL files that build the store's schema, one
// a version, in goose's form. Package store runs them when it opens a database.
//
// It promises that a file which was released is never edited again: a change
// of the schema is a new file. It refuses to hold anything but SQL that both
// engines understand after store's translation.
//
// They are tested by opening stores: storetest does it on both engines.
package migrations

import "embed"

// Files holds the migrations.
//
//go:embed *.sql
var Files embed.FS
