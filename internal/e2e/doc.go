// Package e2e holds the end-to-end tests: the whole program, started as the
// command starts it, between real parts. A real Moodle database (PostgreSQL and
// MariaDB) stands at one end, a mail server and a webhook receiver on sockets
// at the other, and people's questions are asked through the public HTTP API.
//
// It promises that what the tests see is what a user gets: nothing of Belfry is
// replaced or reached into, and what is expected is computed from the facts of
// the site (its README and its own log table), not from Belfry's rules.
//
// It refuses to hold code that is no test, and to test what one room can show
// by itself: each room's own tests do that.
//
// Tests of this package need both database servers; testdb says what to install
// where one is missing.
package e2e
